"""An unchanged FastMCP server, and a client of each class: tasks of two revisions, held calls, hand-offs."""

from collections.abc import Callable

import pytest
from mcp.shared.exceptions import MCPError

from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_servers import shop

RED = {"action": "accept", "content": {"value": "red"}}
BedOf = Callable[..., TestBed]


@pytest.mark.parametrize("kind", ClientKind)
async def test_every_class_of_client_gets_the_same_results(kind: ClientKind, bed_of: BedOf) -> None:
    async with bed_of(shop()) as bed, bed.client(kind, answers=[RED]) as client:
        built = await client.call("build", parts=2)
        counted = await client.call("count", items=3)
        coloured = await client.call("colour")
    assert built.text == "built 3.0"
    assert counted.result is not None
    assert counted.result.structured_content == {"items": 3}
    assert coloured.text == "accept red"


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_tool_without_task_runs_in_the_foreground(kind: ClientKind, bed_of: BedOf) -> None:
    async with bed_of(shop()) as bed, bed.client(kind) as client:
        if kind is ClientKind.TASKS_2025:
            with pytest.raises(MCPError) as refused:
                await client.call("now")
            assert refused.value.error.code == -32601
        else:
            assert (await client.call("now")).text == "now"
        assert await bed.task_ids() == []


async def test_progress_of_both_kinds_becomes_the_tasks(bed_of: BedOf) -> None:
    async with bed_of(shop()) as bed, bed.client() as client:
        built, counted = await client.call("build", parts=1), await client.call("count", items=2)
        assert built.task_id is not None
        assert counted.task_id is not None
        views = [await bed.task(built.task_id), await bed.task(counted.task_id)]
    assert [(view.record.progress.done, view.record.progress.total) for view in views] == [(0, 1), (2, 2)]


async def test_the_context_of_a_task_knows_it(bed_of: BedOf) -> None:
    async with bed_of(shop()) as bed, bed.client() as client:
        told = await client.call("about")
    assert told.result is not None
    assert told.result.structured_content == {
        "is_task": True,
        "task_id": told.task_id,
        "transport": "streamable-http",
    }
