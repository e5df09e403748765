"""Output: what a tool emits is kept in order, by the holder of the fence only, and capped."""

from datetime import timedelta
from typing import Any

import pytest
from anyio import fail_after

from taskmill.engine.artifact import Chunk
from taskmill.engine.errors import ChunkRefused, FenceLost, SealBroken
from tests.support.store_fixture import OWNER, Depot

CHUNKS: list[Any] = ["one", {"rows": [1, None]}, 7, "", "vier, 四"]


async def emit(depot: Depot, task_id: str, fence: int, *chunks: Any, turn: str = "") -> int:
    packed = [depot.store.output.pack(task_id, chunk) for chunk in chunks]
    return await depot.store.output.add(task_id, fence, packed, turn=turn)


async def contents(depot: Depot, task_id: str, **asked: int) -> list[Any]:
    return [chunk.content for chunk in await depot.store.output.read(task_id, **asked)]


async def test_chunks_are_read_in_order_from_any_number_on(depot: Depot) -> None:
    claimed = await depot.start()
    last = await emit(depot, claimed.id, 1, *CHUNKS[:2])
    now = await depot.now_ms()
    assert await emit(depot, claimed.id, 1, *CHUNKS[2:]) == last + 3 == 5

    chunks = await depot.store.output.read(claimed.id)

    assert chunks == [
        Chunk(number, 1, chunk.at_ms, content)
        for number, (chunk, content) in enumerate(zip(chunks, CHUNKS, strict=True), 1)
    ]
    assert now - 1000 <= chunks[0].at_ms <= chunks[-1].at_ms <= now + 1000
    assert await contents(depot, claimed.id, after=3) == CHUNKS[3:]
    assert await contents(depot, claimed.id, after=1, count=2) == CHUNKS[1:3]
    assert await contents(depot, claimed.id, after=5) == []


async def test_a_task_that_emitted_nothing_has_no_output(depot: Depot) -> None:
    assert await contents(depot, await depot.create()) == []


@pytest.mark.parametrize("fence", [0, 2])
async def test_an_emit_under_another_fence_is_lost_and_changes_nothing(depot: Depot, fence: int) -> None:
    claimed = await depot.start()
    await emit(depot, claimed.id, 1, "mine")

    async with depot.nothing_changes():
        with pytest.raises(FenceLost):
            await emit(depot, claimed.id, fence, "late")


async def test_an_emit_after_the_end_is_lost_and_changes_nothing(depot: Depot) -> None:
    finished, cancelled = await depot.start(), await depot.start()
    await depot.finish(finished)
    await depot.store.cancel(cancelled.id, OWNER)

    async with depot.nothing_changes():
        for task in (finished, cancelled):
            with pytest.raises(FenceLost):
                await emit(depot, task.id, task.fence, "late")


async def test_a_repeated_emit_adds_nothing(depot: Depot) -> None:
    """Its reply was lost."""
    claimed = await depot.start()
    assert await emit(depot, claimed.id, 1, "a", "b", turn="t1") == 2

    async with depot.nothing_changes():
        assert await emit(depot, claimed.id, 1, "a", "b", turn="t1") == 2

    assert await emit(depot, claimed.id, 1, "c", turn="t2") == 3
    assert await contents(depot, claimed.id) == ["a", "b", "c"]


async def test_a_new_attempt_goes_on_counting_and_its_chunks_say_so(depot: Depot) -> None:
    first = await depot.start()
    await emit(depot, first.id, first.fence, "again from the top")
    await depot.lapse(first.id)
    second = await depot.take(first.id, depot.bob)

    assert await emit(depot, first.id, second.fence, "again from the top") == 2
    assert [(one.number, one.attempt) for one in await depot.store.output.read(first.id)] == [(1, 1), (2, 2)]


async def test_the_oldest_chunks_fall_off_once_all_are_over_the_limit(depot: Depot) -> None:
    depot = depot.with_settings(max_chunk=100, max_output=250)
    claimed = await depot.start()
    for letter in "abcdef":
        await emit(depot, claimed.id, 1, letter * 78)  # 80 bytes with its quotes

    assert [one.number for one in await depot.store.output.read(claimed.id)] == [4, 5, 6]
    await emit(depot, claimed.id, 1, "g" * 98)
    assert [one.number for one in await depot.store.output.read(claimed.id)] == [6, 7]


@pytest.mark.parametrize(
    ("chunk", "said"),
    [("x" * 99, "over the limit"), ({"x": object()}, "text or JSON, not dict"), (b"bytes", "JSON, not bytes")],
    ids=["too large", "not JSON inside", "bytes"],
)
async def test_a_chunk_that_cannot_be_kept_is_refused_with_the_reason(depot: Depot, chunk: Any, said: str) -> None:
    depot = depot.with_settings(max_chunk=100)
    claimed = await depot.start()

    with pytest.raises(ChunkRefused, match=said):
        depot.store.output.pack(claimed.id, chunk)
    assert depot.store.output.pack(claimed.id, "x" * 98)


async def test_output_goes_with_its_task(depot: Depot) -> None:
    claimed = await depot.start(retention=timedelta(minutes=10))
    await emit(depot, claimed.id, 1, "kept")
    await depot.finish(claimed)

    ttl = await depot.redis.pttl(depot.keys.output(claimed.id))
    assert 599_000 < ttl <= 600_000
    assert await contents(depot, claimed.id) == ["kept"]


async def test_chunks_are_sealed_where_there_are_keys(depot: Depot) -> None:
    sealed = depot.with_settings(seal_keys=(b"k" * 32,))
    claimed = await sealed.start()
    await emit(sealed, claimed.id, 1, "swordfish")

    ((_, field),) = await depot.redis.xrange(depot.keys.output(claimed.id))
    assert b"swordfish" not in field[b"chunk"]
    assert await contents(sealed, claimed.id) == ["swordfish"]
    with pytest.raises(SealBroken):
        await contents(depot.with_settings(seal_keys=(b"o" * 32,)), claimed.id)


async def test_who_follows_hears_of_every_chunk_and_of_the_end(depot: Depot) -> None:
    claimed = await depot.start()
    with fail_after(5):
        async with depot.store.output.follow(claimed.id) as subscription:
            await subscription.news()
            await emit(depot, claimed.id, 1, "a")
            while not await contents(depot, claimed.id):
                await subscription.news()
            await depot.finish(claimed)
            while not (await depot.record(claimed.id)).is_terminal:
                await subscription.news()
