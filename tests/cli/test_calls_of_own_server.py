"""A tool that calls another task tool of its own server: it is told when the two wait for one slot."""

import json
from typing import Any

import pytest

from tests.support.command_line import CommandLine, Started
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SERVER = """
import os
from pathlib import Path

from mcp import Client

from taskmill import TaskConfig, TaskServer

mcp = TaskServer("Nested")
QUICK = TaskConfig(poll_interval=0.1)

async def ask(tool: str) -> str:
    async with Client(Path("url").read_text()) as client:
        return (await client.call_tool(tool, {})).content[0].text

@mcp.tool(task=QUICK)
async def inner() -> str:
    return "inner"

@mcp.tool(task=TaskConfig(poll_interval=0.1, queue="other"))
async def elsewhere() -> str:
    return "elsewhere"

@mcp.tool(task=QUICK)
async def outer(tool: str) -> str:
    return "outer of " + await ask(tool)
"""


def warnings(command: Started) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command.log.read_text().splitlines() if "waits_for_own_queue" in line]


def listed(cli: CommandLine, url: str) -> dict[str, dict[str, Any]]:
    """The tasks by their tools."""
    done = cli.run("tasks", "list", "--json", "--url", url.removesuffix("/mcp"))
    return {task["tool"]: task for task in json.loads(done.stdout)["tasks"]}


def test_a_task_that_waits_for_the_slot_of_its_own_caller_says_so_and_a_cancel_frees_it(cli: CommandLine) -> None:
    cli.write("nested.py", SERVER)
    cli.environment["TASKMILL_API_OPERATOR_TOKEN"] = "a-token-of-an-operator"
    with cli.started("run", "nested.py", "--port", "0", "--concurrency", "1") as command:
        url = command.url()
        cli.write("url", url)
        task_id = cli.run("call", "--url", url, "outer", "tool=inner", "--detach").stdout.strip()
        eventually(lambda: "inner" in listed(cli, url))
        status = cli.run("tasks", "show", listed(cli, url)["inner"]["id"], "--json", "--url", url).stdout
        assert "called by a task of its own queue, which holds the slot that this one waits for" in status
        (line,) = eventually(lambda: warnings(command))
        assert (line["tool"], line["queue"], line["level"]) == ("inner", "default", "warning")
        assert "queue of its own" in line["hint"]
        cli.run("tasks", "cancel", task_id, "--url", url)
        eventually(lambda: listed(cli, url)["inner"]["status"] == "completed")
        assert command.end() == 0


def test_a_task_that_calls_into_another_queue_gets_its_answer(cli: CommandLine) -> None:
    cli.write("nested.py", SERVER)
    with cli.started("run", "nested.py", "--port", "0", "--concurrency", "1") as command:
        url = command.url()
        cli.write("url", url)
        done = cli.run("call", "--url", url, "outer", "tool=elsewhere")
        assert done.stdout == "outer of elsewhere\n"
        assert "waits_for_own_queue" not in command.log.read_text()
        assert command.end() == 0
