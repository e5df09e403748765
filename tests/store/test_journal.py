"""Journals: results of steps and state, kept while the task lives, under the fence, sealed, and within bounds."""

from typing import Any

import pytest

from taskmill.engine.errors import DecryptionFailed, FenceLost, TooLargeToStore
from taskmill.engine.replay import Entry, step_entry
from taskmill.store.claims.claims import Claimed, Question
from taskmill.store.claims.journal import JournalStore, Recorded
from tests.support.store_fixture import DONE, OWNER, StoreFixture, question

FETCH = step_entry("r1", "fetch", "digest")


def journals(stores: StoreFixture) -> JournalStore:
    return JournalStore(stores.redis, stores.settings, stores.ann.scripts)


async def keep(
    stores: StoreFixture,
    claimed: Claimed,
    entry: Entry = FETCH,
    value: Any = "kept",
    state: dict[str, Any] | None = None,
) -> None:
    store = journals(stores)
    packed = store.pack_step(claimed.id, entry, value, room=10**6)
    packed_state = store.pack_state(claimed.id, state) if state is not None else None
    await store.keep(claimed.id, claimed.fence, steps={entry.mark: packed}, state=packed_state)


async def test_a_task_begins_with_an_empty_journal(stores: StoreFixture) -> None:
    claimed = await stores.start()

    assert await journals(stores).read(claimed.id, claimed.fence) == Recorded()


async def test_what_was_kept_is_read_by_the_next_attempt(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [Question("input-1", "r2.digest of it", {})])
    await keep(stores, claimed, FETCH, {"rows": [1, 2]}, state={"page": 3})
    await keep(stores, claimed, step_entry("b2", "side", "x"), None)
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)

    recorded = await journals(stores).read(claimed.id, again.fence)

    assert recorded.values == {"r1": {"rows": [1, 2]}, "b2": None}
    assert recorded.state == {"page": 3}
    assert {(entry.mark, entry.name, entry.digest) for entry in recorded.entries} == {
        ("r1", "fetch", "digest"),
        ("r2", "input-1", "digest of it"),
        ("b2", "side", "x"),
    }
    assert recorded.size > 0


async def test_keeping_something_is_no_event(stores: StoreFixture) -> None:
    """I14: what a reader sees of the task has not changed."""
    claimed = await stores.start()
    before = await stores.read(claimed.id)

    await keep(stores, claimed)

    assert await stores.read(claimed.id) == before


async def test_a_worker_that_lost_the_task_keeps_nothing(stores: StoreFixture) -> None:
    reclaimed, finished, parked = await stores.start(), await stores.start(), await stores.start()
    await stores.lapse(reclaimed.id)
    await stores.take(reclaimed.id, stores.bob)
    await stores.finish(finished)
    await stores.ann.ask(parked.id, 1, [question(1)])
    await stores.run(stores.ann.park_call(parked.id, 1))

    async with stores.nothing_changes():
        for claimed in (reclaimed, finished, parked):
            with pytest.raises(FenceLost):
                await keep(stores, claimed)


@pytest.mark.parametrize("how", ["reclaimed", "cancelled", "expired"])
async def test_a_worker_that_lost_the_task_reads_no_journal(stores: StoreFixture, how: str) -> None:
    """I6: the journal goes with its task. Read as an empty one, it would have every step taken again."""
    claimed = await stores.start()
    await keep(stores, claimed)
    if how == "reclaimed":
        await stores.lapse(claimed.id)
        await stores.take(claimed.id, stores.bob)
    else:
        await stores.store.cancel(claimed.id, OWNER)
    if how == "expired":
        await stores.redis.delete(stores.keys.record(claimed.id))

    with pytest.raises(FenceLost):
        await journals(stores).read(claimed.id, claimed.fence)


@pytest.mark.parametrize("ending", ["finish", "cancel"])
async def test_a_journal_goes_with_the_end_of_its_task(stores: StoreFixture, ending: str) -> None:
    claimed = await stores.start()
    await keep(stores, claimed, state={"page": 3})
    assert stores.keys.journal(claimed.id) in (await stores.found()).values

    if ending == "finish":
        await stores.finish(claimed, DONE)
    else:
        await stores.store.cancel(claimed.id, OWNER)

    assert stores.keys.journal(claimed.id) not in (await stores.found()).values


async def test_what_is_kept_is_sealed_and_bound_to_its_task_and_field(stores: StoreFixture) -> None:
    sealed = stores.with_settings(seal_keys=(b"k" * 32,))
    claimed = await sealed.start()
    await keep(sealed, claimed, FETCH, "confidential", state={"pin": "confidential"})
    key = sealed.keys.journal(claimed.id)
    stored = (await sealed.found()).values[key]
    assert not [value for value in stored.values() if b"confidential" in value]
    assert (await journals(sealed).read(claimed.id, claimed.fence)).values == {"r1": "confidential"}

    await sealed.redis.hset(key, "r2", stored[b"r1"])  # type: ignore[misc]

    with pytest.raises(DecryptionFailed):
        await journals(sealed).read(claimed.id, claimed.fence)


def test_a_result_that_is_too_large_names_its_step(stores: StoreFixture) -> None:
    small = stores.with_settings(max_step=100, max_state=50)
    store = journals(small)

    with pytest.raises(TooLargeToStore, match=r"The result of step 'fetch' is \d+ bytes; 100 can be kept"):
        store.pack_step("t", FETCH, "x" * 100, room=1000)
    with pytest.raises(TooLargeToStore, match=r"The result of step 'fetch' is \d+ bytes; 40 can be kept"):
        store.pack_step("t", FETCH, "x" * 40, room=40)
    with pytest.raises(TooLargeToStore, match=r"The task's state is \d+ bytes; 50 can be kept"):
        store.pack_state("t", {"x": "x" * 50})
