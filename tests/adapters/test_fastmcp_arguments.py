"""Wrong arguments of every kind of tool: refused at the call, in words that name them and what the tool takes."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from fastmcp import FastMCP
from fastmcp.server import create_proxy
from fastmcp.server.middleware import Middleware
from fastmcp.tools import Tool
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.adapters.fastmcp import TaskConfig, Tasks
from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.testing import ClientKind, TestBed

BedOf = Callable[..., TestBed]
TAKES = 'It takes:\n    size  integer, required\n    kind  string, default "box"'


class Label(BaseModel):
    text: str


class ArgumentChanger(Middleware):
    """Gives an argument that the call lacks."""

    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        message = context.message.model_copy(update={"arguments": {"size": 7}})
        return await call_next(context.copy(message=message))


async def pack(size: int, kind: Literal["box", "bag"] = "box") -> str:
    return f"{kind} {size}"


async def label() -> str:
    Label.model_validate({})
    return ""


def shop() -> FastMCP[Any]:
    """A server with the same tool in every way that FastMCP has."""
    mcp: FastMCP[Any] = FastMCP("Shop")
    mcp.tool(name="own", task=True)(pack)
    mcp.tool(name="label", task=True)(label)
    mcp.tool(name="quick")(pack)
    child: FastMCP[Any] = FastMCP("Child")
    child.tool(name="pack")(pack)
    mcp.mount(child, namespace="mounted")
    mcp.mount(create_proxy(child), namespace="proxied")
    changing: FastMCP[Any] = FastMCP("Changing", middleware=[ArgumentChanger()])
    changing.tool(name="pack")(pack)
    mcp.mount(changing, namespace="changing")
    mcp.add_tool(Tool.from_tool(Tool.from_function(pack), name="transformed"))
    names = ("mounted_pack", "proxied_pack", "changing_pack", "transformed")
    mcp.add_extension(Tasks(also={name: TaskConfig() for name in names}))
    return mcp


async def test_wrong_arguments_make_no_task_and_are_named_with_what_the_tool_takes(bed_of: BedOf) -> None:
    async with bed_of(shop()) as bed:
        for kind in (ClientKind.TASKS_2026, ClientKind.HELD):
            async with bed.client(kind) as client:
                for tool in ("own", "quick", "mounted_pack", "proxied_pack", "transformed"):
                    missing = await client.call(tool)
                    wrong = await client.call(tool, size="many", kind="sack")
                    assert missing.text == f"Error executing tool {tool}: size is required. {TAKES}"
                    assert "size should be a" in wrong.text
                    assert "kind should be 'box' or 'bag', not 'sack'" in wrong.text
                    assert wrong.text.endswith(TAKES)
                    assert wrong.result is not None
                    assert wrong.result.is_error
                    assert (missing.task_id, wrong.task_id) == (None, None)
                    assert (await client.call(tool, size="3")).text == "box 3"  # as pydantic takes it
                answer = await client.call("task_answer")
                assert answer.text.startswith("Error executing tool task_answer: task_id is required; key is required;")
                assert (await client.call("changing_pack")).text == "box 7"
                assert (await client.call("label")).text.startswith("Error calling tool 'label': text is required")


async def test_no_answer_has_the_text_of_pydantic(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("Shop")

    @mcp.prompt
    def greet(times: int) -> str:
        return "hello " * times

    @mcp.resource("label://one")
    def one() -> str:
        return str(Label.model_validate({}))

    async with bed_of(mcp) as bed, Client(bed.url) as client:
        asked = [client.get_prompt("greet", {"times": "often"}), client.read_resource("label://one")]
        asked += [request_without_types(client.session, "tasks/get", {})]
        for request, words in zip(asked, ("'times'", "text is required", "params.taskId is missing"), strict=True):
            with pytest.raises(MCPError) as refused:
                await request
            assert words in refused.value.error.message
            assert "pydantic" not in refused.value.error.message


async def test_wrong_arguments_of_a_call_as_a_task_of_2025_are_a_protocol_error_in_the_same_words(
    bed_of: BedOf,
) -> None:
    async with bed_of(shop()) as bed, bed.client(ClientKind.TASKS_2025) as client:
        with pytest.raises(MCPError) as refused:
            await client.call("mounted_pack")
    assert refused.value.error.message == f"Error executing tool mounted_pack: size is required. {TAKES}"
