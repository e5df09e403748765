"""Results: what comes through a task is what the SDK's foreground call gives, whatever the tool returns."""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import anyio
import anyio.from_thread
import pytest
from mcp.server.mcpserver import Audio, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from taskmill.engine.errors import AttemptEnded, ChunkRefused
from taskmill.server import Context, TaskServer
from taskmill.store.settings import StoreSettings
from tests.server.session_client import open_session
from tests.support.replica import Json, Rpc, client_of

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Row(BaseModel):
    name: str = Field(alias="rowName")
    cells: list[float | None]


class Totals(TypedDict):
    sum: int
    label: str


@dataclass
class Point:
    x: int
    y: float


def text() -> str:
    return "four: 四, a line\nand a \u2028 separator"


def number() -> int:
    return 2**53 + 1


def nothing() -> None:
    return None


def nested() -> dict[str, Any]:
    return {"b": [1, 2.5, None, {"deep": True}], "a": ""}


def model() -> Row:
    return Row(rowName="r", cells=[1.0, None])


def typed_dict() -> Totals:
    return {"sum": 3, "label": "three"}


def a_dataclass() -> Point:
    return Point(1, 0.5)


def a_list() -> list[int]:
    return [3, 1, 2]


def picture() -> Image:
    return Image(data=PIXEL, format="png")


def sound() -> Audio:
    return Audio(data=b"RIFF....WAVE", format="wav")


def mixed():  # type: ignore[no-untyped-def]  # without a type there is no structured content
    return ["first", Image(data=PIXEL, format="png"), {"then": "JSON"}]


def blocks() -> list[TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource]:
    blob = base64.b64encode(b"\x00\xff").decode()
    return [
        TextContent(type="text", text="t", _meta={"mine": 1}),
        ImageContent(type="image", data=blob, mime_type="image/png"),
        AudioContent(type="audio", data=blob, mime_type="audio/wav"),
        ResourceLink(name="n", uri="https://files.example/a b", mime_type="text/csv", size=3, title="T"),
        EmbeddedResource(type="resource", resource=TextResourceContents(uri="memo://1", text="x", mime_type="a/b")),
        EmbeddedResource(type="resource", resource=BlobResourceContents(uri="memo://2", blob=blob)),
    ]


def whole() -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text="no")], structured_content={"k": [None]}, is_error=True, _meta={"m": {}}
    )


def fail(how: str) -> str:
    raise ToolError("the printer is on fire") if how == "tool error" else RuntimeError("secret")


TOOLS: list[Callable[[], Any]] = [
    *(text, number, nothing, nested, model, typed_dict, a_dataclass, a_list),
    *(picture, sound, mixed, blocks, whole),
]


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> StoreSettings:
    return StoreSettings(redis_url=redis_url, inline_result=20_000, artifacts=f"dir:{tmp_path}/artifacts")


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Results", store=settings)
    for function in TOOLS:
        mcp.add_tool(function, f"{function.__name__}_now")
        mcp.add_tool(function, function.__name__, task=True)
    mcp.add_tool(fail, "fail_now")
    mcp.add_tool(fail, task=True)
    _add_large(mcp)
    _add_emitting(mcp)
    return mcp


RPC_SERVER = make_server  # the one that `rpc` is a client of


def _add_large(mcp: TaskServer[Any]) -> None:
    @mcp.tool(task=True)
    async def long_text(size: int) -> str:
        return "é" * size

    @mcp.tool(task=True)
    async def long_model(size: int) -> Row:
        return Row(rowName="n" * size, cells=[])

    @mcp.tool(task=True)
    async def two_sizes():  # type: ignore[no-untyped-def]  # without a type there is no structured content
        return ["small", "L" * 30_000, Image(data=b"i" * 9_000, format="png")]

    @mcp.tool(task=True)
    async def report(path: str, ctx: Context[Any, Any]) -> list[Any]:
        return ["See the file.", await ctx.attach(path)]

    @mcp.tool(task=True)
    async def streamed(count: int, ctx: Context[Any, Any]) -> ResourceLink:
        async def rows() -> AsyncIterator[bytes]:
            for row in range(count):
                yield b"%08d\n" % row

        return await ctx.attach(rows(), name="rows.csv")

    @mcp.tool(task=True)
    async def attach_wrongly(how: str, ctx: Context[Any, Any]) -> str:
        async def words() -> AsyncIterator[Any]:
            yield "text"

        try:
            match how:
                case "nothing there":
                    await ctx.attach("/no/such/file")
                case "no name":
                    await ctx.attach(words())
                case "text":
                    await ctx.attach(words(), name="x")
                case "a number":
                    await ctx.attach(7)  # type: ignore[arg-type]  # what a tool may do
                case "a type that is none":
                    await ctx.attach(words(), name="x", mime_type="text/csv\r\nx: y")
        except (OSError, TypeError, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"
        return "attached"


LATE: dict[str, Any] = {}


def _add_emitting(mcp: TaskServer[Any]) -> None:
    @mcp.tool(task=True)
    async def emitting(chunks: list[Any], until: str, ctx: Context[Any, Any]) -> str:
        for chunk in chunks:
            await ctx.emit(chunk)
        while until and not Path(until).exists():
            await asyncio.sleep(0.02)
        return f"{len(chunks)} chunks"

    @mcp.tool(task=True)
    def emitting_from_a_thread(ctx: Context[Any, Any]) -> str:
        anyio.from_thread.run(ctx.emit, threading.current_thread().name)
        return "ok"

    @mcp.tool(task=True)
    async def too_much(ctx: Context[Any, Any]) -> str:
        try:
            await ctx.emit("x" * 100_000)
        except ChunkRefused as exc:
            return str(exc)
        return "taken"

    @mcp.tool(task=True)
    async def emitting_late(ctx: Context[Any, Any]) -> str:
        returned = asyncio.Event()

        async def linger() -> None:
            await returned.wait()
            for verb in (ctx.emit("late"), ctx.attach("/etc/hostname")):
                try:
                    await verb
                except AttemptEnded as exc:
                    LATE.setdefault("said", []).append(str(exc))
            LATE["over"].set()

        LATE["over"] = asyncio.Event()
        LATE["task"] = asyncio.create_task(linger())
        asyncio.get_running_loop().call_later(0.05, returned.set)
        return "gone"


async def result(rpc: Rpc, tool: str, **arguments: Any) -> Json:
    task = await rpc.done(await rpc.task(tool, **arguments))
    assert task["status"] == "completed", task
    value: Json = task["result"]
    return value


async def read(rpc: Rpc, uri: str) -> Json:
    return await rpc.ask("resources/read", {"uri": uri}, name=uri)


async def contents(rpc: Rpc, link: Json) -> bytes:
    (content,) = (await read(rpc, link["uri"]))["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == (link["uri"], link["mimeType"])
    return content["text"].encode() if "text" in content else base64.b64decode(content["blob"])


def canonical(value: Json) -> bytes:
    """The bytes of a result in one order of its members, without what the SDK writes on every reply."""
    meta = {name: one for name, one in value.get("_meta", {}).items() if name != "io.modelcontextprotocol/serverInfo"}
    plain = {name: one for name, one in value.items() if name != "_meta"} | ({"_meta": meta} if meta else {})
    return json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()


@pytest.mark.parametrize("tool", [function.__name__ for function in TOOLS])
async def test_a_task_gives_byte_for_byte_what_a_foreground_call_gives(rpc: Rpc, tool: str) -> None:
    now = canonical((await rpc.call(f"{tool}_now"))["result"])

    assert canonical(await result(rpc, tool)) == now
    assert canonical((await rpc.without_tasks().call(tool))["result"]) == now


@pytest.mark.parametrize("tool", [function.__name__ for function in TOOLS])
async def test_before_2026_a_task_gives_byte_for_byte_what_a_foreground_call_gives(rpc: Rpc, tool: str) -> None:
    """2025-11-25, tasks: "tasks/result returns exactly what the underlying request would have returned"."""
    session = await open_session(rpc.http, rpc.url)
    now = (await session.call(f"{tool}_now"))["result"]

    task = await session.task(tool)
    then = (await session.ask("tasks/result", taskId=task["taskId"]))["result"]

    assert then["_meta"].pop("io.modelcontextprotocol/related-task") == {"taskId": task["taskId"]}
    assert canonical(then) == canonical(now)


async def test_before_2026_artifacts_and_output_are_resources_too(rpc: Rpc) -> None:
    session = await open_session(rpc.http, rpc.url)
    task = await session.task("streamed", count=10)
    (link,) = (await session.ask("tasks/result", taskId=task["taskId"]))["result"]["content"]
    (content,) = (await session.ask("resources/read", uri=link["uri"]))["result"]["contents"]
    assert content["text"] == "".join(f"{row:08}\n" for row in range(10))

    task = await session.task("emitting", chunks=["a", "b"], until="")
    await session.until(task["taskId"], "completed")
    (content,) = (await session.ask("resources/read", uri=f"taskmill://task/{task['taskId']}/output"))["result"][
        "contents"
    ]
    assert content["text"] == "ab"


@pytest.mark.parametrize("raised", ["tool error", "crash"])
async def test_an_error_of_the_tool_reads_as_in_a_foreground_call(rpc: Rpc, raised: str) -> None:
    now = (await rpc.call("fail_now", how=raised))["result"]
    then = await result(rpc, "fail", how=raised)
    assert now["isError"] is then["isError"] is True
    told = now["content"][0]["text"].replace("fail_now", "fail")
    assert then["content"][0]["text"].startswith(told)


async def test_a_result_within_the_limit_travels_inside(rpc: Rpc) -> None:
    value = await result(rpc, "long_text", size=4_000)
    assert [value["content"][0]["text"], value["structuredContent"]] == ["é" * 4_000, {"result": "é" * 4_000}]


async def test_of_a_result_over_the_limit_the_larger_copy_goes_first(rpc: Rpc) -> None:
    value = await result(rpc, "long_text", size=8_000)

    assert value["structuredContent"] == {"result": "é" * 8_000}
    (link,) = value["content"]
    assert (link["type"], link["name"], link["mimeType"], link["size"]) == (
        "resource_link",
        "result-1.txt",
        "text/plain",
        16_000,
    )
    assert (await contents(rpc, link)).decode() == "é" * 8_000


async def test_a_result_far_over_the_limit_is_kept_once_and_linked(rpc: Rpc) -> None:
    value = await result(rpc, "long_text", size=50_000)

    assert "structuredContent" not in value
    (link,) = value["content"]
    assert (await contents(rpc, link)).decode() == "é" * 50_000


async def test_structured_content_over_the_limit_is_linked_as_json(rpc: Rpc) -> None:
    value = await result(rpc, "long_model", size=50_000)

    assert "structuredContent" not in value
    (link,) = value["content"]
    assert (link["name"], link["mimeType"]) == ("result-1.json", "application/json")
    assert json.loads(await contents(rpc, link)) == {"rowName": "n" * 50_000, "cells": []}


async def test_only_the_largest_parts_are_linked_and_the_rest_keeps_its_place(rpc: Rpc) -> None:
    value = await result(rpc, "two_sizes")

    small, large, image = value["content"]
    assert small == {"type": "text", "text": "small"}
    assert (large["type"], image["type"]) == ("resource_link", "image")
    assert await contents(rpc, large) == b"L" * 30_000


async def test_an_attached_file_is_a_link_that_any_replica_serves(
    rpc: Rpc, settings: StoreSettings, tmp_path: Path
) -> None:
    path = tmp_path / "données.csv"
    path.write_bytes(b"a,b\n1,2\n" * 20_000)

    words, link = (await result(rpc, "report", path=str(path)))["content"]

    assert words["text"] == "See the file."
    assert link == {
        "type": "resource_link",
        "name": "données.csv",
        "uri": link["uri"],
        "mimeType": "text/csv",
        "size": 160_000,
    }
    assert await contents(rpc, link) == path.read_bytes()
    async with client_of(make_server(settings)) as other:
        assert await contents(other, link) == path.read_bytes()


async def test_an_attached_stream_is_read_while_it_is_made(rpc: Rpc) -> None:
    (link,) = (await result(rpc, "streamed", count=100_000))["content"]

    wanted = b"".join(b"%08d\n" % row for row in range(100_000))
    assert (link["size"], hashlib.sha256(await contents(rpc, link)).digest()) == (
        len(wanted),
        hashlib.sha256(wanted).digest(),
    )


async def test_an_artifact_too_large_for_a_reply_names_its_http_address(rpc: Rpc) -> None:
    (link,) = (await result(rpc, "streamed", count=200_000))["content"]

    error = (await read(rpc, link["uri"]))["error"]

    address = rpc.url.removesuffix("/mcp") + "/api/artifacts/" + link["uri"].rpartition("/")[2]
    assert error["code"] == -32602
    assert f"1,800,000 bytes; a reply carries 1,048,576. Get it over HTTP from {address}" in error["message"]
    assert error["data"] == {"reason": "too_large", "size": 1_800_000, "limit": 1_048_576, "href": address}


@pytest.mark.parametrize("uri", ["taskmill://artifact/nothing", "taskmill://task/nothing/output", "taskmill://task/x"])
async def test_what_is_not_there_is_not_found(rpc: Rpc, uri: str) -> None:
    assert (await read(rpc, uri))["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nothing there", "FileNotFoundError"),
        ("no name", "ValueError: attach needs name=..."),
        ("text", "TypeError: attach takes a stream of bytes, and it gave a str: encode text first"),
        ("a number", "TypeError: attach takes a path or an async stream of bytes, not int"),
        ("a type that is none", "ValueError: mime_type must be like text/csv"),
    ],
)
async def test_what_cannot_be_attached_is_told_to_the_author(rpc: Rpc, how: str, said: str) -> None:
    assert said in (await result(rpc, "attach_wrongly", how=how))["content"][0]["text"]


async def test_output_is_read_while_the_task_runs_and_after_it(rpc: Rpc, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task_id = await rpc.task("emitting", chunks=["one ", "two"], until=str(gate))
    uri = f"taskmill://task/{task_id}/output"
    with anyio.fail_after(30):
        while (content := (await read(rpc, uri))["result"]["contents"][0])["text"] != "one two":
            await anyio.sleep(0.01)
    assert (content["mimeType"], (await rpc.get(task_id))["result"]["status"]) == ("text/plain", "working")

    gate.touch()
    await rpc.done(task_id)
    assert (await read(rpc, uri))["result"]["contents"] == [content]


async def test_output_that_is_not_all_text_is_one_json_value_a_line(rpc: Rpc) -> None:
    chunks: list[Any] = ["text", {"n": 1}, [None]]
    task_id = await rpc.task("emitting", chunks=chunks, until="")
    await rpc.done(task_id)

    (content,) = (await read(rpc, f"taskmill://task/{task_id}/output"))["result"]["contents"]

    assert content["mimeType"] == "application/x-ndjson"
    assert [json.loads(line) for line in content["text"].splitlines()] == chunks


async def test_a_plain_tool_emits_from_its_thread(rpc: Rpc) -> None:
    task_id = await rpc.task("emitting_from_a_thread")
    await rpc.done(task_id)

    (content,) = (await read(rpc, f"taskmill://task/{task_id}/output"))["result"]["contents"]

    assert content["text"] not in ("", threading.current_thread().name)


async def test_a_chunk_over_the_limit_is_refused_with_the_limit(rpc: Rpc) -> None:
    said = (await result(rpc, "too_much"))["content"][0]["text"]
    assert said == "A chunk of 100,002 bytes is over the limit, 65,536: emit less, or attach a file."


async def test_after_the_tool_returned_it_can_leave_nothing(rpc: Rpc) -> None:
    LATE.clear()
    assert (await result(rpc, "emitting_late"))["content"][0]["text"] == "gone"
    with anyio.fail_after(30):
        await LATE["over"].wait()
    assert LATE["said"] == [str(AttemptEnded())] * 2
