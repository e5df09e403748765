"""The test bed: the whole engine in this process, clients of every class, and what a watcher would have seen."""

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from taskmill.engine.status import Status
from taskmill.testing import ClientKind, TestBed, in_order
from taskmill.testing.fixture import bed_fixture
from taskmill.testing.tasks2025_client import Tasks2025Client
from taskmill.testing.tasks2026_client import Tasks2026Client
from tests.testing.tools import GATE, mcp

own_redis_bed = bed_fixture(mcp)


@pytest.fixture
async def bed(redis_url: str) -> AsyncIterator[TestBed]:
    """On the Redis of the test run: a bed's own costs a start each."""
    GATE.is_open = False
    async with TestBed(mcp, redis_url=redis_url) as made:
        yield made


async def test_a_bed_with_a_redis_of_its_own_is_one_line(own_redis_bed: TestBed) -> None:
    async with own_redis_bed.client() as client:
        assert (await client.call("pack", count=2)).text == "2 boxes from north"


async def test_a_bed_keeps_to_its_own_redis_whatever_the_environment_says(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a developer's shell may name the Redis servers that people use."""
    monkeypatch.setenv("TASKMILL_SHARDS", "default=redis://127.0.0.1:1/0")
    monkeypatch.setenv("TASKMILL_QUEUE_SHARDS", "reports=default")
    monkeypatch.setenv("TASKMILL_SHARD", "default")
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert (await client.call("pack", count=2)).text == "2 boxes from north"


async def test_the_server_object_is_as_it_was_afterwards(redis_url: str) -> None:
    for _ in range(2):
        async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
            assert (await client.call("quick")).text == "quick"
    assert mcp.store_settings is None


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_every_class_of_client_gets_the_result(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind) as client:
        called = await client.call("pack", count=3)
    assert called.text == "3 boxes from north"
    assert called.result is not None
    assert not called.result.is_error


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_every_client_is_asked_and_its_answer_taken(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=[{"size": "XL"}]) as client:
        called = await client.call("order")
    assert called.text == "XL"
    assert [question["params"]["message"] for question in called.questions] == ["Which size?"]


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD])
async def test_a_model_and_roots_can_be_asked_for_as_well(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=["seven", ["file:///srv"]]) as client:
        called = await client.call("consult")
    assert called.text == "seven in file:///srv"
    assert [question["method"] for question in called.questions] == ["sampling/createMessage", "roots/list"]


SHOWN = {
    ClientKind.TASKS_2026: ("working", "half way (50%)"),
    ClientKind.TASKS_2025: ("working", "half way (50%)"),
    ClientKind.HELD: ("progress", "half way (50%)"),
}


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_a_slow_tool_is_followed_in_the_way_of_each_class(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind) as client:
        calling = asyncio.create_task(client.call("slow"))
        with anyio.fail_after(30):
            while not any(kind is ClientKind.HANDED_OFF or moment == SHOWN[kind] for moment in client.called.seen):
                assert not calling.done(), calling.result()
                await asyncio.sleep(0.01)
        (task_id,) = await bed.task_ids()
        GATE.is_open = True
        called = await calling

    assert called.text == "at last"
    assert called.task_id == (None if kind is ClientKind.HELD else task_id)
    if kind is ClientKind.HANDED_OFF:
        assert called.seen[0].status == "handed_off"
        assert task_id in called.seen[0].message


async def test_the_timeline_is_what_a_watcher_saw(bed: TestBed) -> None:
    async with bed.client() as client:
        called = await client.call("pack", count=1)
    assert called.task_id is not None
    timeline = await bed.timeline(called.task_id)

    assert timeline[:2] == [("pending", "queued, next in line"), ("running", "running")]
    assert timeline[-1] == ("completed", "completed")
    assert in_order(timeline, ("running", "running"), ("running", "box 1 (100%)"), ("completed", "completed"))
    assert not in_order(timeline, ("completed", "completed"), ("running", "running"))


async def test_a_retry_is_in_the_timeline(bed: TestBed) -> None:
    async with bed.client() as client:
        called = await client.call("second_time_lucky")
    assert called.task_id is not None
    first, again = await words_of(bed, called.task_id, "running")
    assert (first, again) == ("running", "attempt 2 of 2")
    _, waiting = await words_of(bed, called.task_id, "pending")
    assert "the last one failed" in waiting


async def words_of(bed: TestBed, task_id: str, status: str) -> list[str]:
    return [moment.message for moment in await bed.timeline(task_id) if moment.status == status]


async def test_a_task_is_begun_cancelled_and_followed(bed: TestBed) -> None:
    for kind in (ClientKind.TASKS_2026, ClientKind.TASKS_2025):
        async with bed.client(kind) as client:
            assert isinstance(client, Tasks2026Client | Tasks2025Client)
            task_id = await client.begin("slow")
            await bed.until(task_id, Status.RUNNING)
            await client.cancel(task_id)
            assert (await bed.until(task_id)).record.status is Status.CANCELLED
            with pytest.raises(MCPError):
                await client.follow(task_id)


async def test_a_task_outlives_its_worker(bed: TestBed) -> None:
    async with bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        task_id = await client.begin("slow")
        await bed.until(task_id, Status.RUNNING)
        await bed.stop_worker()
        assert (await bed.task(task_id)).record.status is Status.PENDING
        GATE.is_open = True
        await bed.start_worker()
        assert (await client.follow(task_id)).text == "at last"
    assert (await bed.task(task_id)).record.attempt == 2


async def test_waiting_for_what_does_not_come_times_out(bed: TestBed) -> None:
    async with bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        task_id = await client.begin("slow")
        with pytest.raises(TimeoutError, match=r"slow is (pending|running) .* not cancelled or .* after 0.05 s"):
            await bed.until(task_id, within=0.05)
        await client.cancel(task_id)
        with pytest.raises(AssertionError, match=r"slow is cancelled \(cancelled\), not running"):
            await bed.until(task_id, "running")


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_what_fails_beside_an_open_client_comes_out_as_it_was(bed: TestBed, kind: ClientKind) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with bed.client(kind):
            raise LookupError("mine")
