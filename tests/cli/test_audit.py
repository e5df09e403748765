"""`taskmill audit`: what servers and commands have recorded, over the API and in Redis, and as it comes."""

import json
import os
import pwd
import signal
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.waiting import eventually

TOKEN = "0123456789abcdef"


def audit(cli: CommandLine, *words: str) -> list[dict[str, Any]]:
    done = cli.run("audit", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_commands_act_in_someones_name_and_the_trail_is_shown_and_followed(cli: CommandLine) -> None:
    cli.environment |= {"TASKMILL_OPERATOR_TOKENS": f"alice=read,act:{TOKEN}"}
    with cli.started("run", "server.py", "--port", "0", TASKMILL_AUDIT="redis") as server:
        url = server.url()
        at_url = ("--url", url, "--token", TOKEN)
        task_id = cli.run("call", "--url", url, "dig", "gate=never", "--detach").stdout.strip()
        with cli.started("audit", "--follow", *at_url) as following:
            assert f"\ttask.created\tok\tanonymous\t127.0.0.1\ttask={task_id} tool=dig" in following.first_line()
            assert cli.run("tasks", "cancel", task_id).returncode == 0, "on the Redis of this folder, by this user"
            user = f"os:{pwd.getpwuid(os.getuid()).pw_name}"
            eventually(lambda: f"\ttask.cancelled\tok:operator\toperator:{user}\t" in following.first_line())
            assert following.end(signal.SIGINT) == 0
        assert cli.run("tasks", "rerun", task_id, *at_url).returncode == 0
        by_alice = audit(cli, *at_url, "--who", "alice", "--what", "task.")
        assert [(one["action"], one["target"]) for one in by_alice] == [("task.rerun", task_id)]
        about = [(one["action"], one["who"]) for one in audit(cli, "--task", task_id[:12], "--since", "1h")]
        assert about == [("task.cancelled", user), ("task.created", None)]
        refused = cli.run("audit", "--url", url, "--since", "soon", "--token", TOKEN)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "since must be a time" in refused.stderr
