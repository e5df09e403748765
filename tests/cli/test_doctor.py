"""`taskmill doctor`: what it checks, and when a finding is unfit."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from taskmill.cli.doctor.sealing import sealing_findings, unsealed_finding
from taskmill.cli.doctor.security import audit_findings, redis_access_findings
from taskmill.cli.doctor.tools import pause_findings
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.tasks.pauses import Pausable, Pause
from tests.support.command_line import SERVER, CommandLine
from tests.support.first_layout import first_layout
from tests.support.redis_server import PrivateRedis
from tests.support.waiting import eventually


def findings(cli: CommandLine, *words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    done = cli.run("doctor", "--json", *words, **environment)
    assert (done.returncode, done.stderr) == (code, "")
    # A tool may have two findings; the later one is worse.
    return {finding.pop("name"): finding for finding in json.loads(done.stdout)}


def test_a_sound_installation_has_every_finding_ok(cli: CommandLine) -> None:
    found = findings(cli, "server.py")
    assert {finding["level"] for finding in found.values()} == {"ok"}
    named = {"versions", "file", "tool dig", "settings", "redis-server", "redis", "redis eviction", "artifacts"}
    assert named <= found.keys()
    assert found["artifacts"]["detail"] == "in Redis, up to 16 MiB each"
    assert found["tool dig"]["detail"] == "optional, no time limit, 0 retries, result kept 24 h, queue default"
    assert cli.processes() == {}


def test_a_person_gets_a_table(cli: CommandLine) -> None:
    done = cli.run("doctor")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()][:2] == ["check", "versions"]


def test_a_redis_that_evicts_is_unfit_and_says_what_to_change(cli: CommandLine) -> None:
    with PrivateRedis(maxmemory_policy="allkeys-lru") as redis:
        found = findings(cli, "--redis-url", redis.url, code=1)
    assert found["redis eviction"]["level"] == "unfit"
    assert "noeviction" in found["redis eviction"]["remedy"]
    assert found["redis persistence"]["level"] == "warning"
    assert "redis-server" not in found, "no program is needed for a Redis of one's own"


def test_a_redis_without_workers_is_a_warning(cli: CommandLine, redis_url: str) -> None:
    found = findings(cli, "--redis-url", redis_url, TASKMILL_PREFIX="nobody")
    assert found["workers"] == {
        "level": "warning",
        "detail": "none is alive, so tasks wait",
        "remedy": "start one: taskmill worker FILE",
    }


def test_a_model_that_could_not_be_asked_is_found_before_it_is(cli: CommandLine) -> None:
    keyless = findings(cli, TASKMILL_SAMPLING_MODEL="openai/gpt", OPENAI_API_KEY="")["model"]
    assert keyless["level"] == "warning"
    assert "set OPENAI_API_KEY" in keyless["detail"]
    unfit = findings(cli, code=1, TASKMILL_SAMPLING_MODEL="gpt")["model"]
    assert (unfit["level"], "must be anthropic/NAME or openai/NAME" in unfit["detail"]) == ("unfit", True)


def test_live_workers_are_listed_and_tools_that_none_of_them_has(cli: CommandLine) -> None:
    other = cli.write("other.py", SERVER.replace("def dig", "def bore"))
    with cli.started("worker", "server.py") as worker:
        eventually(lambda: "worker.started" in worker.log.read_text())
        found = eventually(lambda: one if "workers" not in (one := findings(cli, other.name)) else None)
    (name,) = [name for name in found if name.startswith("worker ")]
    assert found[name]["detail"] == "queue default, 0 of 10 running, 0 settled"
    warned = [name for name, finding in found.items() if finding["level"] == "warning"]
    assert warned == ["tool bore"]


REAL = '''
from datetime import timedelta

from taskmill.server import TaskConfig, TaskServer

mcp = TaskServer("Real")


def of_size(size: str) -> str:
    return size


@mcp.tool(task=TaskConfig(isolation="process", memory_limit=32 * 1024**2, queue="slow", priority=2, deadline=60))
def convert(path: str) -> str:
    """Converts a file."""
    return path


@mcp.tool(task=TaskConfig(concurrency_key="repo:{path}", idempotency=["path"], scopes=["rows:write"]))
async def index(path: str) -> str:
    """Indexes a repository."""
    return path


@mcp.tool(task=TaskConfig(concurrency_key=of_size, rate_limit=(10, timedelta(minutes=1))))
async def pack(size: str) -> str:
    """Packs a box."""
    return size
'''


def test_a_policy_is_shown_and_what_cannot_work_in_it_is_a_warning(cli: CommandLine, redis_url: str) -> None:
    cli.write("real.py", REAL)
    done = cli.run("doctor", "--json", "real.py", "--redis-url", redis_url, TASKMILL_PREFIX="nobody")
    found = [(one["name"], one["level"], one["detail"]) for one in json.loads(done.stdout) if "tool" in one["name"]]

    usual = "optional, no time limit, 0 retries, result kept 24 h, queue default"
    slow = "optional, no time limit, deadline 60 s, 0 retries, result kept 24 h, queue slow"
    ((_, _, tight),) = [one for one in found if one[:2] == ("tool convert", "warning")]
    assert tight.startswith("memory_limit is 32 MiB, and a process with this file loaded takes ")
    assert [one for one in found if one[:2] != ("tool convert", "warning")] == [
        (
            "tool convert",
            "ok",
            f"{slow}, priority +2, in a process of its own of 32 MiB at most",
        ),
        ("tool index", "ok", f"{usual}, once for each path, 1 at a time for each repo:{{path}}, scopes rows:write"),
        (
            "tool index",
            "warning",
            "it needs the scope rows:write, and the server has no authentication to grant one",
        ),
        ("tool pack", "ok", f"{usual}, 10 starts in 60 s for each of_size(...)"),
    ]


def test_queues_without_a_worker_and_workers_without_a_tool_are_warnings(cli: CommandLine) -> None:
    cli.write("real.py", REAL)
    with cli.started("worker", "real.py", "--queue", "default,slwo") as worker:
        eventually(lambda: "worker.started" in worker.log.read_text())
        found = eventually(lambda: one if "workers" not in (one := findings(cli, "real.py")) else None)

    assert found["tool convert"]["detail"] == "no live worker serves queue slow: its tasks wait"
    assert found["tool convert"]["remedy"] == "start one: taskmill worker FILE --queue slow"
    assert found["queue slwo"]["level"] == "warning"
    assert found["tool pack"]["level"] == "ok"


def test_a_directory_of_artifacts_is_tried(cli: CommandLine, redis_url: str) -> None:
    kept = cli.folder / "kept"
    found = findings(cli, "--redis-url", redis_url, TASKMILL_ARTIFACTS=f"dir:{kept}")["artifacts"]
    assert found["level"] == "ok"
    assert found["detail"].startswith(f"dir:{kept}: one was written, read and deleted in ")
    assert [path for path in kept.rglob("*") if path.is_file()] == []

    (cli.folder / "file").touch()
    refused = findings(cli, "--redis-url", redis_url, code=1, TASKMILL_ARTIFACTS=f"dir:{cli.folder}/file")
    assert refused["artifacts"]["level"] == "unfit"
    assert "cannot be used" in refused["artifacts"]["detail"]
    assert "TASKMILL_ARTIFACTS" in refused["artifacts"]["remedy"]


def test_a_bucket_that_does_not_answer_is_unfit(cli: CommandLine, redis_url: str) -> None:
    bucket = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "x", "AWS_ALLOW_HTTP": "true"}
    bucket |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "TASKMILL_ARTIFACTS": "s3://nowhere/prefix"}
    found = findings(cli, "--redis-url", redis_url, code=1, **bucket)["artifacts"]
    assert found["level"] == "unfit"
    assert found["detail"].startswith("The artifact bucket s3://nowhere/prefix cannot be used: ")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis:6379/0", {"redis password", "redis encryption"}),
        ("redis://:hush@10.0.0.7:6379/0", {"redis encryption"}),
        ("rediss://user:hush@redis.example.com/0", set()),
        ("rediss://redis.example.com/0", {"redis password"}),
        ("redis+sentinel://s1:26379,s2:26379/mymaster/0?password=hush", {"redis encryption"}),
        ("redis://127.0.0.1:6379/0", set()),
        ("redis://[::1]:6379", set()),
        ("unix:///run/redis.sock", set()),
        (None, set()),
    ],
)
def test_a_redis_on_another_machine_needs_a_password_and_encryption(url: str | None, expected: set[str]) -> None:
    found = list(redis_access_findings(url, "redis"))
    assert {one.name for one in found if one.level == "warning"} == expected
    assert "hush" not in str(found)


def test_an_audit_file_that_cannot_be_written_or_is_open_to_all_is_found(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("")
    (tmp_path / "open").chmod(0o644)
    given = {"log,redis": "ok", f"file:{tmp_path}/none/audit": "unfit", f"file:{tmp_path}": "unfit", "": "ok"}
    given |= {f"file:{tmp_path}/open": "warning", f"file:{tmp_path}/new": "ok"}
    levels = {audit: next(audit_findings(StoreSettings(audit=audit))).level for audit in given}
    assert levels == given
    assert not (tmp_path / "new").exists()


def test_an_unreachable_redis_is_unfit_and_its_password_stays_secret(cli: CommandLine) -> None:
    found = findings(cli, code=1, TASKMILL_REDIS_URL="redis://:hush@127.0.0.1:1")
    assert found["redis"]["level"] == "unfit"
    assert "hush" not in json.dumps(found)


def test_a_file_that_cannot_be_loaded_is_unfit_and_the_rest_is_still_checked(cli: CommandLine) -> None:
    cli.write("broken.py", "1 / 0\n")
    found = findings(cli, "broken.py", code=1)
    assert found["file"] == {
        "level": "unfit",
        "detail": "broken.py, line 1: ZeroDivisionError: division by zero",
        "remedy": "correct the file",
    }
    assert found["redis"]["level"] == "ok"


def test_settings_that_cannot_work_are_unfit(cli: CommandLine) -> None:
    found = findings(cli, code=1, TASKMILL_LEASE="soon")
    assert "TASKMILL_LEASE" in found["settings"]["detail"]


BROKEN = """
from pydantic import BaseModel

class Settings(BaseModel):
    workers: int

def read(text: str) -> Settings:
    return Settings(workers=text)

settings = read("many")
"""


def test_what_pydantic_refused_while_the_file_was_loaded_is_a_line_and_words(cli: CommandLine) -> None:
    found = findings(cli, cli.write("broken.py", BROKEN).name, code=1)

    detail = found["file"]["detail"]
    assert detail.startswith("broken.py, line 8: ")
    assert "1 validation error for Settings; workers; Input should be a valid integer" in detail
    assert "https://" not in detail


def test_a_context_without_annotation_and_a_tool_that_cannot_be_one_are_found_with_their_lines(
    cli: CommandLine,
) -> None:
    bare = f"{SERVER}\n\n@mcp.tool(task=True)\ndef bare(ctx): ...\n"
    done = cli.run("doctor", "--json", cli.write("bare.py", bare).name)
    (hint,) = [one for one in json.loads(done.stdout) if one["name"] == "file" and one["level"] == "warning"]
    assert "Tool 'bare': ctx gets the context because of its name. Write `ctx: Context`" in hint["detail"]
    assert hint["detail"].startswith("bare.py, line ")

    own = f"{SERVER}\n\nclass Box: ...\n\n@mcp.tool(task=True)\ndef boxed() -> Box: ...\n"
    done = cli.run("doctor", "--json", cli.write("own.py", own).name)
    (hint,) = [one for one in json.loads(done.stdout) if one["name"] == "file" and one["level"] == "warning"]
    assert "Tool 'boxed': it returns a Box, which has no JSON form, so its calls will fail." in hint["detail"]
    assert hint["detail"].startswith("own.py, line ")
    assert hint["remedy"] == "return a dict, a dataclass or a pydantic model"

    stars = f"{SERVER}\n\n@mcp.tool(task=True)\ndef bare(*paths): ...\n"
    found = findings(cli, cli.write("stars.py", stars).name, code=1)
    assert "Tool 'bare': it takes *paths, and clients send arguments by name" in found["file"]["detail"]
    assert "(stars.py, line " in found["file"]["detail"]


def test_tasks_of_another_layout_are_unfit_and_commands_refuse_them_in_the_same_words(cli: CommandLine) -> None:
    keys = Keys()
    with PrivateRedis() as server, Redis.from_url(server.url) as client:
        for command in first_layout(keys, ended=False):
            client.execute_command(*command)
        found = findings(cli, "--redis-url", server.url, code=1)
        refused = [
            cli.run(*words, "--redis-url", server.url)
            for words in (("tasks", "list"), ("worker", "server.py"), ("serve", "server.py", "--port", "0"))
        ]
        assert client.get(keys.layout) is None

    finding = found["redis layout"]
    assert finding["level"] == "unfit"
    assert "stored in layout 1" in finding["detail"]
    assert "until all its tasks have ended" in finding["remedy"]
    for one in refused:
        assert one.returncode == 1, one.stderr
        assert f"{finding['detail']}. To do: {finding['remedy']}" in " ".join(one.stderr.split())
        assert "Traceback" not in one.stderr


def test_keys_are_read_and_what_was_stored_without_them_is_counted(cli: CommandLine, redis_url: str) -> None:
    """Turned on under tasks that are in flight: they are refused, or accepted for a while."""
    file = cli.write("keys", base64.b64encode(b"k" * 32).decode())
    keys = Keys("plain")
    with Redis.from_url(redis_url) as redis:
        redis.hset(keys.record("early"), "status", "pending")
        redis.zadd(keys.all, {"early": 1})
    sealing = {"TASKMILL_PREFIX": "plain", "TASKMILL_SEAL_KEYS_FILE": str(file)}

    refused = findings(cli, "--redis-url", redis_url, **sealing)
    during = read_settings(StoreSettings, seal_keys_file=file, seal_accept_unsealed="2999-01-31")
    accepted = [*sealing_findings(during), *unsealed_finding(during, 1, 1)]
    unfit = findings(cli, "--redis-url", redis_url, code=1, TASKMILL_SEAL_KEYS_FILE="nowhere")

    assert refused["sealing"]["detail"] == f"on: 1 key from {file}; the first seals"
    assert refused["redis sealed tasks"]["level"] == "warning"
    assert (
        refused["redis sealed tasks"]["detail"] == "1 of the latest 1 tasks were stored without keys, and are refused"
    )
    assert [finding.level for finding in accepted] == ["ok", "warning", "warning"]
    assert accepted[1].detail.startswith("payloads that are not sealed are accepted, until 2999-02-01")
    assert accepted[2].detail.endswith("and are accepted")
    assert (unfit["sealing"]["level"], "cannot be read" in unfit["sealing"]["detail"]) == ("unfit", True)


def test_a_pause_is_a_finding_that_says_who_why_and_how_it_ends() -> None:
    (finding,) = pause_findings([Pause(Pausable.QUEUE, "shop", "slow", "os:ann", 5, "the disk is full")])

    assert finding.level == "warning"
    assert finding.detail == "queue slow is paused by os:ann: the disk is full"
    assert finding.remedy == "when it may go on: taskmill queues resume slow"
