"""Each class of client gets from a server that is not ours what it answers itself, over HTTP and over pipes."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import CallToolResult, PromptReference, ResourceTemplateReference

from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target
from taskmill.testing import ClientKind, TestBed
from tests.adapters.remote_servers import foreign_words, served
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(foreign_words(tmp_path), tmp_path) as url:
        yield url


@pytest.fixture(params=["http", "pipes"])
def target(request: pytest.FixtureRequest, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server by its address, and by its command."""
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    return address if request.param == "http" else command_target(foreign_words(tmp_path))


def shape(result: CallToolResult | None) -> dict[str, Any]:
    assert result is not None
    return result.model_dump(mode="json", include={"content", "structured_content", "is_error"})


async def direct(address: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """What the server itself answers."""
    async with Client(address) as client:
        return shape(await client.call_tool(tool, arguments))


async def listed_by(address: str) -> dict[str, Any]:
    """Every definition, whole, without what belongs to one answer."""
    async with Client(address) as client:
        found: list[Any] = [*(await client.list_tools()).tools, *(await client.list_resources()).resources]
        found += [*(await client.list_resource_templates()).resource_templates, *(await client.list_prompts()).prompts]
    return {f"{type(one).__name__} {one.name}": one.model_dump(mode="json", by_alias=True) for one in found}


async def test_definitions_are_the_servers_own(target: str, address: str, bed_of: BedOf) -> None:
    """No `_meta`, title or MIME type is added, and none is left out."""
    async with bed_of(RemoteHost(target, RemoteSettings(task=("none",)))) as bed:
        assert await listed_by(bed.url) == await listed_by(address)


@pytest.mark.parametrize("tasks", ["*", "none"], ids=["tasks", "foreground"])
async def test_each_class_of_client_gets_the_servers_own_answer(
    target: str, address: str, bed_of: BedOf, tasks: str
) -> None:
    async with bed_of(RemoteHost(target, RemoteSettings(task=(tasks,))), handoff_after=5) as bed:
        for tool, arguments in (("add", {"a": 1, "b": 2}), ("refuse", {})):
            own = await direct(address, tool, **arguments)
            for kind in ClientKind:
                if tasks == "none" and kind is ClientKind.TASKS_2025:
                    continue  # it asks for a task, and the tool has none
                async with bed.client(kind) as client:
                    assert shape((await client.call(tool, **arguments)).result) == own, kind
        if tasks == "*":
            async with bed.client() as client:
                wrong = await client.call("add", a="x")
            assert wrong.task_id is None
            assert wrong.text.startswith(
                "Error executing tool add: a should be an integer, not 'x'; b is required. It "
            )


async def test_progress_and_the_hand_off_are_those_of_our_own_tools(target: str, bed_of: BedOf, tmp_path: Path) -> None:
    async with bed_of(RemoteHost(target, RemoteSettings())) as bed:
        for kind in ClientKind:
            name = str(kind)
            async with bed.client(kind) as client:
                # The gate opens when the progress has arrived, so it is seen by all but the one that was handed off.
                calling = asyncio.ensure_future(client.call("write", name=name))
                await eventually_async(lambda: progress_of(bed), lambda found: found == (1.0, 2.0), within=30)
                (tmp_path / f"{name}.gate").touch()
                record = await calling
            assert record.text == f"{name} is done"
            if kind is ClientKind.HELD:
                assert any("half of it" in update.message for update in record.seen), record.seen


async def progress_of(bed: TestBed) -> tuple[float | None, float | None] | None:
    for task_id in await bed.task_ids():
        record = (await bed.task(task_id)).record
        if record.progress is not None and not record.is_terminal:
            return record.progress.done, record.progress.total
    return None


async def test_resources_prompts_and_completions_pass_through(target: str, bed_of: BedOf) -> None:
    async with bed_of(RemoteHost(target, RemoteSettings())) as bed:
        for mode in ("legacy", "auto"):
            async with Client(bed.url, mode=mode) as client:  # type: ignore[arg-type]
                assert "Be kind to it." in (client.instructions or "")
                assert [str(one.uri) for one in (await client.list_resources()).resources] == ["note://one"]
                templates = (await client.list_resource_templates()).resource_templates
                assert [one.uri_template for one in templates] == ["note://of/{name}"]
                for uri, text in (("note://one", "the first note"), ("note://of/ann", "a note of ann")):
                    (content,) = (await client.read_resource(uri)).contents
                    assert getattr(content, "text", None) == text
                (prompt,) = (await client.list_prompts()).prompts
                assert prompt.name == "greet"
                (message,) = (await client.get_prompt("greet", {"name": "Bo"})).messages
                assert getattr(message.content, "text", None) == "Say hello to Bo"
                for ref in (PromptReference(name="greet"), ResourceTemplateReference(uri="note://of/{name}")):
                    found = await client.complete(ref, {"name": "name", "value": "x"})
                    assert found.completion.values == ["xa", "xb", "xc"]
