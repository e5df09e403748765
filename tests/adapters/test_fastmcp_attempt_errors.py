"""Why an attempt at a FastMCP tool failed is kept for operators as it was raised, with its cause."""

from collections.abc import Callable
from typing import Any

from fastmcp import FastMCP

from taskmill.testing import TestBed


async def test_the_error_that_the_tool_raised_is_kept_with_its_cause(bed_of: Callable[..., TestBed]) -> None:
    mcp: FastMCP[Any] = FastMCP("Shelves")

    @mcp.tool(task=True)
    async def crash(shelf: str) -> str:
        try:
            raise LookupError("no such shelf")
        except LookupError as exc:
            raise ValueError("the shelf fell") from exc

    async with bed_of(mcp) as bed:
        async with bed.client() as client:
            record = await client.call("crash", shelf="a value of an argument")
        (task_id,) = await bed.task_ids()
        (error,) = (await bed.store.attempt_errors(task_id)).values()

    assert "no such shelf" not in record.text
    assert (error.type, error.text) == ("ValueError", "the shelf fell")
    assert "LookupError: no such shelf" in error.traceback
    assert "direct cause" in error.traceback
    assert "a value of an argument" not in error.traceback
