"""How a task of a FastMCP tool ends: as its foreground call would, in words and in codes."""

from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import Context, FastMCP
from fastmcp.dependencies import Depends
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, InputRequiredResult

from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig
from taskmill.engine.outcome import Refused
from taskmill.testing import ClientKind, TestBed
from tests.support.replica import TASKS, Rpc

BedOf = Callable[..., TestBed]
STRING = {"type": "string"}
RED = {"action": "accept", "content": {"value": "red"}}


def broken() -> str:
    raise LookupError("no such shelf")


def failing(**options: Any) -> FastMCP[Any]:
    """A server whose tools end in every other way than with a result."""
    mcp: FastMCP[Any] = FastMCP("Failing", **options)

    @mcp.tool(task=True)
    async def crash() -> str:
        raise ValueError("the shelf fell")

    @mcp.tool(task=True)
    async def refuse() -> str:
        raise ToolError("the shelf is locked")

    @mcp.tool(task=True)
    async def protocol() -> str:
        raise MCPError(-32050, "the shelf is elsewhere", {"room": 2})

    @mcp.tool(task=True, timeout=0.05)
    async def slow() -> str:
        await anyio.sleep(30)
        return ""

    @mcp.tool(task=True)
    async def dependent(shelf: str = Depends(broken)) -> str:
        return shelf

    @mcp.tool(task=True)
    async def number(n: int) -> int:
        return n

    @mcp.tool(task=TaskConfig(mode="required"))
    async def strict() -> str:
        return "strict"

    @mcp.tool(task=True)
    async def silent() -> InputRequiredResult:
        return InputRequiredResult.model_validate({"requestState": "only"}, by_name=False)

    @mcp.tool(task=TaskConfig(retries=1, backoff=0.01))
    async def again(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        if task.attempt == 1:
            raise OSError("not yet")
        return f"attempt {task.attempt}, with fence {task.fence}"

    return mcp


@pytest.mark.parametrize("tool", ["crash", "refuse", "dependent"])
@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.HELD])
async def test_an_error_is_shown_as_in_the_foreground(kind: ClientKind, tool: str, bed_of: BedOf) -> None:
    mcp = failing()
    with pytest.raises(ToolError) as foreground:
        await mcp.call_tool(tool, {})
    async with bed_of(mcp) as bed, bed.client(kind) as client:
        record = await client.call(tool)
    assert record.result is not None
    assert record.result.is_error
    assert record.text == str(foreground.value)


async def test_a_masked_error_has_a_reference_and_no_words_of_its_own(bed_of: BedOf) -> None:
    async with bed_of(failing(mask_error_details=True)) as bed, bed.client() as client:
        masked, said = await client.call("crash"), await client.call("refuse")
    assert "shelf" not in masked.text
    assert "(reference " in masked.text
    assert said.text == "the shelf is locked"


@pytest.mark.parametrize(("tool", "code"), [("protocol", -32050), ("slow", -32000)])
async def test_a_protocol_error_of_a_tool_fails_its_task(tool: str, code: int, bed_of: BedOf) -> None:
    async with bed_of(failing()) as bed, bed.client() as client:
        with pytest.raises(MCPError) as raised:
            await client.call(tool)
        (task_id,) = await bed.task_ids()
        outcome = (await bed.task(task_id)).outcome
    assert raised.value.error.code == code
    assert isinstance(outcome, Refused)
    assert outcome.code == code


async def test_arguments_that_do_not_fit_make_no_task(bed_of: BedOf) -> None:
    mcp = failing()
    async with bed_of(mcp) as bed:
        for kind in (ClientKind.TASKS_2026, ClientKind.HELD):
            async with bed.client(kind) as client:
                record = await client.call("number", n="many")
            assert record.result is not None
            assert record.result.is_error
            assert record.text == (
                "Error executing tool number: n should be a valid integer, unable to parse string as an integer, not "
                "'many'. It takes:\n    n  integer, required"
            )
        async with bed.client(ClientKind.TASKS_2025) as client:
            with pytest.raises(MCPError) as refused:
                await client.call("number", n="many")
        assert refused.value.error.code == -32602
        assert await bed.task_ids() == []


async def test_a_required_task_is_refused_to_clients_that_ask_for_none(bed_of: BedOf) -> None:
    """-32021 where the client declares what it can; -32601 by "Tool-Level Negotiation" of 2025-11-25."""
    async with bed_of(failing()) as bed, httpx2.AsyncClient(timeout=30) as http:
        reply = await Rpc(http, bed.url).without_tasks().call("strict")
        assert reply["error"]["code"] == -32021
        async with bed.client(ClientKind.HELD) as client:
            with pytest.raises(MCPError) as refused:
                await client.call("strict")
        assert refused.value.error.code == -32601
        async with bed.client(ClientKind.TASKS_2025) as client:
            assert (await client.call("strict")).text == "strict"


async def test_a_tool_that_asks_nothing_fails_instead_of_waiting_for_ever(bed_of: BedOf) -> None:
    async with bed_of(failing()) as bed, bed.client() as client:
        record = await client.call("silent")
    assert record.result is not None
    assert record.result.is_error
    assert "named no question" in record.text


async def test_questions_may_be_a_result_in_several_rounds(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("Rounds")

    @mcp.tool(task=True)
    async def choose(ctx: Context) -> str | InputRequiredResult:
        state = ctx.request_state or ""
        answer = (ctx.input_responses or {}).get("next")
        if isinstance(answer, ElicitResult) and answer.content is not None:
            state += str(answer.content["value"])[0]
        if len(state) == 2:
            return state
        params = {"message": "Which?", "requestedSchema": {"type": "object", "properties": {"value": STRING}}}
        asked = {"next": {"method": "elicitation/create", "params": params}}
        return InputRequiredResult.model_validate({"inputRequests": asked, "requestState": state}, by_name=False)

    async with bed_of(mcp) as bed:
        for kind in ClientKind:
            async with bed.client(kind, answers=[RED, RED]) as client:
                assert (await client.call("choose")).text == "rr"


def asking() -> FastMCP[Any]:
    """A server whose tools ask in every way there is."""
    mcp: FastMCP[Any] = FastMCP("Asking")
    params = {"message": "Which?", "requestedSchema": {"type": "object", "properties": {"value": STRING}}}
    form = {"method": "elicitation/create", "params": params}

    @mcp.tool(task=True)
    async def by_context(ctx: Context) -> str:
        return (await ctx.elicit("Which?", response_type=str)).action

    @mcp.tool(task=True)
    async def by_task(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        return str(await task.ask([form]))

    @mcp.tool(task=True)
    async def by_result() -> InputRequiredResult:
        return InputRequiredResult.model_validate({"inputRequests": {"next": form}}, by_name=False)

    return mcp


@pytest.mark.parametrize("tool", ["by_context", "by_task", "by_result"])
async def test_a_client_that_cannot_be_asked_gets_the_missing_capability(bed_of: BedOf, tool: str) -> None:
    """Its task would wait for an answer for ever."""
    async with bed_of(asking()) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url, {"extensions": {TASKS: {}}})
        done = await rpc.until(await rpc.task(tool), "completed", "failed", "input_required")
    assert done["status"] == "failed", done
    assert done["error"]["code"] == -32021, done


async def test_a_crash_is_retried_as_the_policy_says(bed_of: BedOf) -> None:
    async with bed_of(failing()) as bed, bed.client() as client:
        assert (await client.call("again")).text == "attempt 2, with fence 2"
