"""Output: what a tool emits is kept in order, by the holder of the fence only, and capped."""

from datetime import timedelta
from typing import Any

import pytest
from anyio import fail_after

from taskmill.engine.artifact import Chunk
from taskmill.engine.errors import ChunkRefused, DecryptionFailed, FenceLost
from tests.support.store_fixture import OWNER, StoreFixture

CHUNKS: list[Any] = ["one", {"rows": [1, None]}, 7, "", "vier, 四"]


async def emit(stores: StoreFixture, task_id: str, fence: int, *chunks: Any, batch_id: str = "") -> int:
    packed = [stores.output.pack(task_id, chunk) for chunk in chunks]
    return await stores.output.add(task_id, fence, packed, batch_id=batch_id)


async def contents(stores: StoreFixture, task_id: str, **asked: int) -> list[Any]:
    return [chunk.content for chunk in await stores.store.output.read(task_id, **asked)]


async def test_chunks_are_read_in_order_from_any_number_on(stores: StoreFixture) -> None:
    claimed = await stores.start()
    before = await stores.now_ms()
    last = await emit(stores, claimed.id, 1, *CHUNKS[:2])
    assert await emit(stores, claimed.id, 1, *CHUNKS[2:]) == last + 3 == 5
    after = await stores.now_ms()

    chunks = await stores.store.output.read(claimed.id)

    assert chunks == [
        Chunk(number, 1, chunk.at_ms, content)
        for number, (chunk, content) in enumerate(zip(chunks, CHUNKS, strict=True), 1)
    ]
    assert before - 1 <= chunks[0].at_ms <= chunks[-1].at_ms <= after + 1
    assert await contents(stores, claimed.id, after=3) == CHUNKS[3:]
    assert await contents(stores, claimed.id, after=1, count=2) == CHUNKS[1:3]
    assert await contents(stores, claimed.id, after=5) == []


async def test_a_task_that_emitted_nothing_has_no_output(stores: StoreFixture) -> None:
    assert await contents(stores, await stores.create()) == []


@pytest.mark.parametrize("fence", [0, 2])
async def test_an_emit_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()
    await emit(stores, claimed.id, 1, "mine")

    async with stores.nothing_changes():
        with pytest.raises(FenceLost):
            await emit(stores, claimed.id, fence, "late")


async def test_an_emit_after_the_end_is_lost_and_changes_nothing(stores: StoreFixture) -> None:
    finished, cancelled = await stores.start(), await stores.start()
    await stores.finish(finished)
    await stores.store.cancel(cancelled.id, OWNER)

    async with stores.nothing_changes():
        for task in (finished, cancelled):
            with pytest.raises(FenceLost):
                await emit(stores, task.id, task.fence, "late")


async def test_a_repeated_emit_adds_nothing(stores: StoreFixture) -> None:
    """Its reply was lost."""
    claimed = await stores.start()
    assert await emit(stores, claimed.id, 1, "a", "b", batch_id="t1") == 2

    async with stores.nothing_changes():
        assert await emit(stores, claimed.id, 1, "a", "b", batch_id="t1") == 2

    assert await emit(stores, claimed.id, 1, "c", batch_id="t2") == 3
    assert await contents(stores, claimed.id) == ["a", "b", "c"]


async def test_a_new_attempt_goes_on_counting_and_its_chunks_say_so(stores: StoreFixture) -> None:
    first = await stores.start()
    await emit(stores, first.id, first.fence, "again from the top")
    await stores.lapse(first.id)
    second = await stores.take(first.id, stores.bob)

    assert await emit(stores, first.id, second.fence, "again from the top") == 2
    assert [(one.number, one.attempt) for one in await stores.store.output.read(first.id)] == [(1, 1), (2, 2)]


async def test_the_oldest_chunks_fall_off_once_all_are_over_the_limit(stores: StoreFixture) -> None:
    stores = stores.with_settings(max_chunk=100, max_output=250)
    claimed = await stores.start()
    for letter in "abcdef":
        await emit(stores, claimed.id, 1, letter * 78)  # 80 bytes with its quotes

    assert [one.number for one in await stores.store.output.read(claimed.id)] == [4, 5, 6]
    await emit(stores, claimed.id, 1, "g" * 98)
    assert [one.number for one in await stores.store.output.read(claimed.id)] == [6, 7]


@pytest.mark.parametrize(
    ("chunk", "said"),
    [("x" * 99, "over the limit"), ({"x": object()}, "text or JSON, not dict"), (b"bytes", "JSON, not bytes")],
    ids=["too large", "not JSON inside", "bytes"],
)
async def test_a_chunk_that_cannot_be_kept_is_refused_with_the_reason(
    stores: StoreFixture, chunk: Any, said: str
) -> None:
    stores = stores.with_settings(max_chunk=100)
    claimed = await stores.start()

    with pytest.raises(ChunkRefused, match=said):
        stores.output.pack(claimed.id, chunk)
    assert stores.output.pack(claimed.id, "x" * 98)


async def test_output_goes_with_its_task(stores: StoreFixture) -> None:
    claimed = await stores.start(retention=timedelta(minutes=10))
    await emit(stores, claimed.id, 1, "kept")
    await stores.finish(claimed)

    ttl = await stores.redis.pttl(stores.keys.output(claimed.id))
    assert 599_000 < ttl <= 600_000
    assert await contents(stores, claimed.id) == ["kept"]


async def test_chunks_are_sealed_where_there_are_keys(stores: StoreFixture) -> None:
    sealed = stores.with_settings(seal_keys=(b"k" * 32,))
    claimed = await sealed.start()
    await emit(sealed, claimed.id, 1, "swordfish")

    ((_, field),) = await stores.redis.xrange(stores.keys.output(claimed.id))
    assert b"swordfish" not in field[b"chunk"]
    assert await contents(sealed, claimed.id) == ["swordfish"]
    with pytest.raises(DecryptionFailed):
        await contents(stores.with_settings(seal_keys=(b"o" * 32,)), claimed.id)


async def test_a_follower_learns_of_every_chunk_and_of_the_end(stores: StoreFixture) -> None:
    claimed = await stores.start()
    with fail_after(30):
        async with stores.store.output.follow(claimed.id) as subscription:
            await subscription.updates()
            await emit(stores, claimed.id, 1, "a")
            while not await contents(stores, claimed.id):
                await subscription.updates()
            await stores.finish(claimed)
            while not (await stores.record(claimed.id)).is_terminal:
                await subscription.updates()
