"""What processes log at their start: an operator sees who is who, and with which Redis, callers and limits."""

import json
import subprocess
from pathlib import Path
from typing import Any

import structlog

from taskmill.cli.start_log import log_redis
from taskmill.store.settings import StoreSettings
from tests.support.command_line import CommandLine, Started
from tests.support.processes import taskmill
from tests.support.waiting import eventually

OPERATORS = {"TASKMILL_OPERATOR_TOKENS": "read:0123456789abcdef", "TASKMILL_KEPT_LIMIT": "77"}
SUBJECTS = ("process", "redis", "tools", "authentication", "limits")


def events_in(text: str) -> dict[str, dict[str, Any]]:
    whole, _, _unfinished = text.rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return {line["event"]: line for line in lines}


def events_of(process: Started, *wanted: str) -> dict[str, dict[str, Any]]:
    """Its events so far, when the wanted ones are among them: several are logged at once, by several parts."""
    eventually(lambda: set(wanted) <= events_in(process.log.read_text()).keys())
    return events_in(process.log.read_text())


def test_a_server_says_at_its_start_who_it_is_and_what_it_works_with(cli: CommandLine) -> None:
    with cli.started("serve", "server.py", "--port", "0", **OPERATORS) as server:
        url = server.url()
        events = events_of(
            server, *(f"start.{name}" for name in ("process", "redis", "authentication", "limits", "tools"))
        )
        pid = server.process.pid

    process, redis, auth = (events[f"start.{subject}"] for subject in ("process", "redis", "authentication"))
    assert (process["role"], process["pid"], process["url"]) == ("server", pid, url)
    assert process["version"]
    assert redis["address"].startswith("unix://")
    assert Path(redis["embedded_in"]).name == ".taskmill"
    assert redis["sealed"] is False
    assert (auth["callers"], auth["operators"], auth["audit"]) == ("anyone, without a token", True, "none")
    assert events["start.limits"]["kept_limit"] == 77
    assert events["start.tools"]["queues"] == ["default"]
    assert "0123456789abcdef" not in json.dumps(events)


def test_a_worker_says_at_its_start_what_it_serves_and_for_how_long(cli: CommandLine) -> None:
    with cli.started("worker", "server.py", "--concurrency", "3", "--grace", "7") as worker:
        events = events_of(worker, "worker.started", "start.process", "start.limits")

    assert events["start.process"]["role"] == "worker"
    assert (events["start.process"]["queues"], events["start.process"]["slots"]) == (["default"], 3)
    assert (events["start.limits"]["grace"], events["start.limits"]["crash_limit"]) == (7, 3)
    assert events["worker.started"]["app"] == events["start.process"]["app"] != ""


def test_a_server_on_pipes_says_it_on_standard_error_only(cli: CommandLine) -> None:
    words = [taskmill(), "stdio", "server.py"]
    with (cli.folder / "output").open("w") as output:  # not a pipe: a file has a position, standard error has none
        done = subprocess.run(
            words, cwd=cli.folder, env=cli.environment, input="", stdout=output, stderr=subprocess.PIPE, text=True
        )

    events = events_in(done.stderr)
    assert (done.returncode, (cli.folder / "output").read_text()) == (0, "")
    assert events["start.process"]["role"] == "stdio server"
    assert events["start.redis"]["address"].startswith("unix://")


def test_no_password_of_a_redis_is_logged() -> None:
    urls = {"url": "redis://ops:hush@redis.example:6379/1", "shard": "redis+sentinel://s1:26379/main/0?password=hush"}
    with structlog.testing.capture_logs() as logged:
        log_redis(StoreSettings.model_construct(redis_url=urls["url"], shards={"reports": urls["shard"]}))

    (event,) = logged
    assert event["address"] == "redis://…@redis.example:6379/1"
    assert "hush" not in str(event)
