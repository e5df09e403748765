"""How each kind of error reaches each kind of client, compared with FastMCP alone: the same server without Taskmill."""

import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import NotFoundError, ToolError, ValidationError
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from mcp.shared.exceptions import MCPError

from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig
from taskmill.testing import ClientKind, TestBed

BedOf = Callable[..., TestBed]
Answer = tuple[Any, str]
"""The code of a protocol error, or whether a result is an error; and the words."""
ERRORS: dict[str, Callable[[], Exception]] = {
    "tool": lambda: ToolError("the shelf is locked"),
    "protocol": lambda: MCPError(-32050, "the shelf is elsewhere"),
    "validation": lambda: ValidationError("the shelf is no shelf"),
    "absent": lambda: NotFoundError("the shelf is gone"),
    "plain": lambda: ValueError("the shelf fell"),
}
FAILED = {"protocol": -32050, "slow": -32000}
"""What fails a task with a code of its own, as it does with FastMCP's tasks; the foreground shows an error result."""
TASKS = (ClientKind.TASKS_2025, ClientKind.TASKS_2026)


def shelves(where: str, *, mask: bool, task: bool) -> FastMCP[Any]:
    """A server whose tools end in every error; they are its own, or those of a mounted server."""
    own: FastMCP[Any] = FastMCP("Shelves", mask_error_details=mask)

    def add(name: str, error: Callable[[], Exception]) -> None:
        async def end() -> str:
            raise error()

        own.tool(name=name, task=task)(end)

    for name, error in ERRORS.items():
        add(name, error)

    @own.tool(task=task, timeout=0.05)
    async def slow() -> str:
        await anyio.sleep(30)
        return ""

    if where == "root":
        return own
    if where == "child with error handling":
        own.add_middleware(ErrorHandlingMiddleware())
    outer: FastMCP[Any] = FastMCP("Outer", mask_error_details=mask)
    outer.mount(own)
    return outer


async def in_foreground(server: FastMCP[Any]) -> dict[str, Answer]:
    """What FastMCP alone answers."""
    answers: dict[str, Answer] = {}
    async with Client(server) as client:
        for tool in (*ERRORS, "slow"):
            try:
                result = await client.call_tool_mcp(tool, {})
                answers[tool] = (result.is_error, " ".join(getattr(one, "text", "") for one in result.content))
            except MCPError as exc:
                answers[tool] = (exc.error.code, exc.error.message)
    return answers


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mask", [False, True], ids=["open", "masked"])
@pytest.mark.parametrize("where", ["root", "child", "child with error handling"])
async def test_every_error_reaches_every_client_as_in_the_foreground(where: str, *, mask: bool, bed_of: BedOf) -> None:
    foreground = await in_foreground(shelves(where, mask=mask, task=False))
    seen: dict[tuple[str, str], Answer] = {}
    expected: dict[tuple[str, str], Answer] = {}
    async with bed_of(shelves(where, mask=mask, task=True)) as bed:
        for kind in ClientKind:
            async with bed.client(kind) as client:
                for tool in foreground:
                    key = (kind.name, tool)
                    expected[key] = foreground[tool]
                    if kind in TASKS and tool in FAILED and where != "child with error handling":
                        expected[key] = (FAILED[tool], "")
                    try:
                        record = await client.call(tool)
                        assert record.result is not None
                        # The reference of the log is all that may come to FastMCP's words.
                        seen[key] = (record.result.is_error, re.sub(r" \(reference \w+\)$", "", record.text))
                    except MCPError as exc:
                        words = "" if expected[key][1] == "" else exc.error.message
                        seen[key] = (exc.error.code, words)
    assert seen == expected


async def test_a_crash_behind_the_error_handling_of_a_mounted_server_is_retried(bed_of: BedOf) -> None:
    own: FastMCP[Any] = FastMCP("Shelves", middleware=[ErrorHandlingMiddleware()])

    @own.tool(task=TaskConfig(retries=1, backoff=0.01))
    async def again(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        if task.attempt == 1:
            raise OSError("not yet")
        return f"attempt {task.attempt}"

    outer: FastMCP[Any] = FastMCP("Outer")
    outer.mount(own)
    async with bed_of(outer) as bed, bed.client() as client:
        assert (await client.call("again")).text == "attempt 2"
