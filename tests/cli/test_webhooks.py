"""`taskmill webhooks`, and what `taskmill doctor` finds of webhooks; the receiver of the page, as a program."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import time

import httpx2
import redis

from taskmill.cli.doctor.webhooks import undelivered_findings, webhook_findings
from taskmill.engine.policy import TaskConfig
from taskmill.store.connection.client import open_redis
from taskmill.store.formats.key_texts import parse_webhook_secrets
from taskmill.store.formats.keys import Keys
from taskmill.store.scripts import Scripts
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.webhooks.deliveries import DeliveryStore
from taskmill.workers.webhooks.message import signed_headers
from tests.support.command_line import CommandLine
from tests.support.redis_server import free_port
from tests.support.waiting import WAIT_SECONDS, eventually
from tests.support.webhook_receiver import SECRET

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
BODY = json.dumps({"type": "task.succeeded", "data": {"id": "1", "tool": "bill", "outcome": "succeeded"}}).encode()


def leave_undelivered(url: str, task_id: str) -> None:
    """A webhook that was given up, as a worker leaves it."""
    keys, at = Keys(), int(time() * 1000)
    record = {"tool": "dig\x1b", "queue": "shop/default", "principal": "anonymous", "status": "completed", "seq": 3}
    record |= {"created_ms": at, "updated_ms": at, "ended_ms": at, "fence": 1, "attempt": 1, "retention_ms": 1000}
    record |= {"poll_ms": 1000, "d_taken": 1, "d_tries": 4, "d_error": "a.example answered 410", "d_given_up": 1}
    with redis.Redis.from_url(url) as client:
        client.hset(keys.webhook(task_id), mapping=record)
        client.zadd(keys.webhooks, {task_id: at})


def test_what_was_given_up_is_listed_and_tried_again(cli: CommandLine, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    leave_undelivered(redis_url, "one")
    leave_undelivered(redis_url, "two")
    cli.environment["TASKMILL_REDIS_URL"] = redis_url
    lines = cli.run("webhooks", "list", "--state", "given_up").stdout.splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == ["one", "two"]
    assert "\x1b" not in "".join(lines)
    assert lines[0].split("\t")[4:6] == ["given_up", "4"]
    assert json.loads(cli.run("webhooks", "retry", "--all", "--json").stdout) == {"name": "all", "retried": 2}
    with redis.Redis.from_url(redis_url) as client:
        assert client.zcard(Keys().deliveries("shop")) == 2
        client.flushall()
    neither = cli.run("webhooks", "retry")
    assert (neither.returncode, neither.stderr.splitlines()) == (
        2,
        ["taskmill: Name a task, or give --all: taskmill webhooks list shows them."],
    )


def found_of(policies: dict[str, TaskConfig] | None = None, **settings: str) -> tuple[str, str]:
    """Level and words of what `taskmill doctor` finds of webhooks."""
    (finding,) = webhook_findings(read_settings(StoreSettings, **settings), policies or {})
    return finding.level, finding.detail


def test_doctor_finds_secrets_that_lack_and_addresses_that_nothing_is_sent_to(tmp_path: Path) -> None:
    own = {"bill": TaskConfig(webhook="https://localhost/own"), "refresh": TaskConfig(webhook=False)}
    assert found_of()[0] == "ok"
    assert found_of(own) == ("unfit", "bill: no webhook is sent, as there is no secret to sign it with")
    assert "which is no public address" in found_of(own, webhook_secret=SECRET)[1]
    private = {"webhook_allow_private": "1", "webhook_url": "http://127.0.0.1/"}
    assert found_of(webhook_secret=SECRET, **private) == ("ok", "1 address, signed with 1 secret")
    file = tmp_path / "secrets"
    file.write_text(f"# of this year\n{SECRET}\n\n{SECRET}\n")
    assert found_of(webhook_secret_file=str(file), **private) == ("ok", "1 address, signed with 2 secrets")
    file.write_text("whsec_nonsense\n")
    level, detail = found_of(webhook_secret_file=str(file))
    assert (level, "every secret must have 24 to 64 bytes" in detail, "nonsense" in detail) == ("unfit", True, False)
    file.unlink()
    assert "No such file" in found_of(webhook_secret_file=str(file))[1]


async def test_doctor_finds_webhooks_that_were_given_up_and_those_that_no_worker_tries(redis_url: str) -> None:
    leave_undelivered(redis_url, "one")
    settings = StoreSettings(redis_url=redis_url)
    async with open_redis(settings) as client:
        await client.zadd(Keys().webhooks, {"old": 1})  # whose facts have expired
        given_up = await DeliveryStore(client, settings, Scripts(Keys()), Keys()).undelivered(None, limit=10)
        await client.flushall()
    waiting = replace(given_up[0], is_given_up=False, taken=0, since_ms=1)
    found = [finding.detail for finding in undelivered_findings([*given_up, waiting, waiting], now_ms=100_000)]
    assert found == ["1 is given up, the latest: a.example answered 410", "2 are waiting, and no worker tries"]


def test_the_receiver_of_the_page_takes_a_message_once_and_refuses_forged_and_old_ones(tmp_path: Path) -> None:
    _, program = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "receiver.py").write_text(program)
    port = free_port()
    environment = {"WEBHOOK_SECRET": SECRET, "PORT": str(port), "PATH": ""}
    command = [sys.executable, str(tmp_path / "receiver.py")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            good = signed_headers("1", BODY, _secrets(), time())
            old = signed_headers("2", BODY, _secrets(), time() - 3600)
            eventually(lambda: _answers(port))
            statuses = [_post(port, headers, BODY) for headers in (good, good, old, {})]
            forged = _post(port, good, BODY.replace(b"bill", b"sell"))
        finally:
            running.terminate()
        told = running.communicate(timeout=WAIT_SECONDS)[0]
    assert (statuses, forged, told) == ([204, 200, 401, 401], 401, "bill 1 succeeded\n")


def _secrets() -> tuple[bytes, ...]:
    return parse_webhook_secrets(SECRET)


def _post(port: int, headers: dict[str, str], body: bytes) -> int:
    return httpx2.post(f"http://127.0.0.1:{port}/", headers=headers, content=body).status_code


def _answers(port: int) -> bool:
    try:
        return _post(port, {}, b"") == 401
    except httpx2.TransportError:
        return False
