"""Results that JSON can hold become what they are; the others fail in words that say where, for every client."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel

from taskmill.server import TaskServer
from taskmill.store.settings import StoreSettings
from taskmill.testing import Eager, EagerRun
from tests.server.session_client import open_session
from tests.support.replica import Rpc
from tests.support.results import text_of

OBJECT = {"type": "object", "additionalProperties": True}


class Row(BaseModel):
    x: float


@dataclass
class Point:
    x: Any


class Own:
    pass


class Named(Own):
    def __str__(self) -> str:
        return "seven"


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Numbers", store=settings)

    def row() -> Row:
        return Row(x=math.nan)

    mcp.add_tool(row, "row", task=True)
    mcp.add_tool(row, "row_now")
    return mcp


RPC_SERVER = make_server  # the one that `rpc` is a client of


async def run(result: Any, annotation: Any = None) -> EagerRun:
    """The run of a task tool that returns `result`; in the foreground it answers the same."""

    def give() -> Any:
        return result

    if annotation is not None:
        give.__annotations__["return"] = annotation
    else:
        give.__annotations__.clear()
    mcp: TaskServer[Any] = TaskServer("Results")
    mcp.add_tool(give, task=True)
    mcp.add_tool(give, "now")
    async with Eager(mcp) as eager:
        made = await eager.call("give")
    if made.result.is_error:
        with pytest.raises(ToolError) as failed:
            await mcp.call_tool("now", {})
        assert str(failed.value) == made.text.replace("tool give", "tool now")
    else:
        now: Any = await mcp.call_tool("now", {})
        assert (now.content, now.structured_content) == (made.result.content, made.result.structured_content)
    return made


@pytest.mark.parametrize("annotation", [dict, Mapping, Annotated[dict, "x"], None])  # type: ignore[type-arg]
async def test_a_dict_is_structured_content(annotation: Any) -> None:
    made = await run({"path": Path("a"), 2: [1]}, annotation)

    assert made.result.structured_content == {"path": "a", "2": [1]}
    assert made.text == '{\n  "path": "a",\n  "2": [\n    1\n  ]\n}'


async def test_a_dict_without_type_arguments_has_a_schema_also_where_the_author_demands_one() -> None:
    def give() -> dict:  # type: ignore[type-arg]
        return {}

    mcp: TaskServer[Any] = TaskServer("Results")
    mcp.add_tool(give)
    mcp.add_tool(give, "demanded", structured_output=True)
    mcp.add_tool(give, "text_only", structured_output=False)

    schemas = {tool.name: tool.output_schema for tool in await mcp.list_tools()}
    assert {name: schemas[name] for name in ("give", "demanded")} == {"give": OBJECT, "demanded": OBJECT}
    text_only: Any = await mcp.call_tool("text_only", {})
    assert text_only.structured_content is None


@pytest.mark.parametrize("result", [Row(x=1), Point(x=1.0)])
async def test_a_model_and_a_dataclass_without_annotation_are_structured_content(result: Any) -> None:
    assert (await run(result)).result.structured_content == {"x": 1.0}


@pytest.mark.parametrize("result", ["text", [1], Image(data=b"", format="png"), TextContent(type="text", text="t")])
async def test_what_is_no_object_has_no_structured_content_without_annotation(result: Any) -> None:
    assert (await run(result)).result.structured_content is None


async def test_what_is_no_dict_fails_where_a_dict_is_promised() -> None:
    made = await run([1], dict)

    assert made.result.is_error
    assert made.text == "Error executing tool give: result is a list, and the tool is annotated to return a dict"


@pytest.mark.parametrize(
    ("result", "annotation", "where"),
    [
        (math.nan, float, "result is NaN"),
        (math.inf, None, "result is Infinity"),
        ({"x": math.nan}, None, "result.x is NaN"),
        ({"x": -math.inf}, dict[str, Any], "result.x is -Infinity"),
        ({"x": [1, {"a key": math.nan}]}, dict, "result.x[1]['a key'] is NaN"),
        ([1.0, math.nan], None, "result[1] is NaN"),
        ([Row(x=1), Row(x=math.nan)], list[Row], "result[1].x is NaN"),
        (Row(x=math.nan), Row, "result.x is NaN"),
        (Point(x=math.nan), Point, "result.x is NaN"),
        (Row(x=math.inf), None, "result.x is Infinity"),
        (CallToolResult(content=[], structured_content={"x": math.nan}), None, "structuredContent.x is NaN"),
    ],
)
async def test_a_number_that_json_does_not_have_fails_and_says_where(result: Any, annotation: Any, where: str) -> None:
    made = await run(result, annotation)

    assert made.result.is_error
    assert made.text == f"Error executing tool give: {where}, a number that JSON does not have"


@pytest.mark.parametrize("text", ["NaN", "an Infinity of names", "<Row at 0x12>"])
async def test_a_text_may_say_so(text: str) -> None:
    assert (await run({"x": text})).result.structured_content == {"x": text}
    assert (await run([text])).text == text


@pytest.mark.parametrize("annotation", [None, dict, dict[str, Any]])
async def test_an_object_that_has_no_json_form_fails_and_says_where(annotation: Any) -> None:
    made = await run({"rows": [1, Own()]}, annotation)

    assert made.result.is_error
    assert "result.rows[1] is an Own, which has no JSON form: return a dict, a dataclass or a pyd" in made.text


@pytest.mark.parametrize(
    ("result", "annotation", "words"),
    [
        (Own(), Own, "result is an Own, which has no JSON form"),
        (print, None, "result is a builtin_function_or_method, which has no JSON form"),
        (b"\xff\x00", bytes, "result is bytes and no text: return it with ctx.attach"),
        ({"a": b"\xff\x00"}, None, "result.a is bytes and no text"),
    ],
)
async def test_results_that_are_no_json_fail_in_words(result: Any, annotation: Any, words: str) -> None:
    made = await run(result, annotation)

    assert made.result.is_error
    assert f"Error executing tool give: {words}" in made.text


async def test_an_object_that_writes_itself_as_text_is_that_text() -> None:
    assert (await run({"day": Named()})).result.structured_content == {"day": "seven"}


async def test_a_result_that_holds_itself_fails_in_words() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless

    assert "is nested too deep, or holds itself" in (await run(endless)).text


async def test_a_forgotten_await_and_a_generator_fail_in_words() -> None:
    async def later() -> int:
        return 1

    async def forgotten() -> Any:
        return later()

    async def stream() -> Any:
        async def numbers() -> Any:
            yield 1

        return numbers()

    mcp: TaskServer[Any] = TaskServer("Results")
    mcp.add_tool(forgotten, task=True)
    mcp.add_tool(stream, task=True)
    async with Eager(mcp) as eager:
        assert "result is a coroutine that no one awaited: write `await`" in (await eager.call("forgotten")).text
        assert "result is an async_generator: return a list of what it yields" in (await eager.call("stream")).text


async def test_nan_fails_in_the_same_words_for_every_client(rpc: Rpc) -> None:
    """2026-07-28: a tool's error is a completed task with isError; 2025-11-25: a failed one."""
    words = "Error executing tool row: result.x is NaN, a number that JSON does not have"

    now = (await rpc.call("row_now"))["result"]
    task = await rpc.done(await rpc.task("row"))
    held = (await rpc.without_tasks().call("row"))["result"]
    session = await open_session(rpc.http, rpc.url)
    before = await session.until((await session.task("row"))["taskId"], "failed")

    assert (now["isError"], text_of(now)) == (True, words.replace("tool row", "tool row_now"))
    assert (task["status"], task["result"]["isError"], text_of(task["result"])) == ("completed", True, words)
    assert (held["isError"], text_of(held)) == (True, words)
    assert before["statusMessage"] == words
