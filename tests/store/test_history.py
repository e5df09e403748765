"""Histories: numbered, bounded, read from any number on, and exact in every text."""

import pytest

from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from taskmill.store.formats.events import event_of
from tests.support.packed_events import pack_event, pack_words, repack
from tests.support.store_fixture import OWNER, StoreFixture

BOUND = 10_000
"""Events kept of one task."""


@pytest.mark.parametrize(
    "text",
    [
        *("\0", "a\0b\n\r\t", '["1","create"]', "\\ \" ' %s {}", "日本語 🎈", "\x1b[31m\x7f"),
        *("x" * 31, "x" * 32, "é" * 128, "y" * 70_000),
    ],
    ids=["nul", "control", "json", "quotes", "wide", "escape", "31", "32", "256", "long"],
)
async def test_every_text_comes_back_as_it_was(stores: StoreFixture, text: str) -> None:
    claimed = await stores.start(tool=text)
    await stores.report((claimed.id, claimed.fence, Progress(1, 3, text)))
    await stores.store.cancel(claimed.id, OWNER, reason=text)

    created, _, progress, cancel = await stores.store.history(claimed.id)

    assert created.facts["tool"] == text
    assert progress.facts == {"done": 1.0, "total": 3.0, "message": text}
    assert cancel.facts["reason"] == text
    assert [pack_event(event) for event in (created, progress, cancel)] == [
        await stores.redis.lindex(stores.keys.events(claimed.id), at)  # type: ignore[misc]
        for at in (0, 2, 3)
    ]


async def test_a_finished_task_keeps_its_history_in_half_a_kilobyte(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)

    assert await stores.redis.memory_usage(stores.keys.events(claimed.id)) <= 560  # type: ignore[misc]


async def long_history(stores: StoreFixture, length: int) -> str:
    """A running task with so many events, without `length` calls: those in the middle are copies of a report."""
    claimed = await stores.start()
    await stores.report((claimed.id, claimed.fence, Progress(0, None, "step")))
    key = stores.keys.events(claimed.id)
    report = await stores.redis.lindex(key, 2)  # type: ignore[misc]
    more = [repack(report, seq=number, done=float(number)) for number in range(4, length + 1)]
    await stores.redis.rpush(key, *more)  # type: ignore[misc]
    await stores.redis.hset(stores.keys.record(claimed.id), mapping={"seq": length, "done": float(length)})  # type: ignore[misc]
    return claimed.id


async def numbers(stores: StoreFixture, task_id: str, after: int, limit: int | None = None) -> list[int]:
    return [event.seq for event in await stores.store.history(task_id, after=after, limit=limit)]


async def test_the_oldest_events_of_a_long_history_are_deleted_and_the_others_keep_their_numbers(
    stores: StoreFixture,
) -> None:
    task_id = await long_history(stores, BOUND - 1)
    fence = (await stores.record(task_id)).fence
    for step in range(1, 4):
        await stores.report((task_id, fence, Progress(step, None, "more")))
    last = BOUND + 2

    assert await numbers(stores, task_id, 0, 2) == [3, 4]
    assert await numbers(stores, task_id, 0) == list(range(3, last + 1))
    assert await numbers(stores, task_id, 5000, 3) == [5001, 5002, 5003]
    assert await numbers(stores, task_id, last - 2) == [last - 1, last]
    assert await numbers(stores, task_id, BOUND - 1, 1) == [BOUND]
    assert [await numbers(stores, task_id, after) for after in (last, last + 1, 10**15)] == [[], [], []]
    assert await stores.redis.llen(stores.keys.events(task_id)) == BOUND  # type: ignore[misc]
    await stores.redis.flushall()  # what was deleted cannot be folded


async def test_the_end_of_a_long_history_is_read_by_one_command(stores: StoreFixture) -> None:
    """A follower reads what is new, not everything before it."""
    task_id = await long_history(stores, BOUND - 1)
    await stores.redis.config_resetstat()

    assert await numbers(stores, task_id, BOUND - 2, 500) == [BOUND - 1]

    calls = await stores.redis.info("commandstats")
    assert {name.removeprefix("cmdstat_") for name in calls} - {"info", "config|resetstat", "config"} == {"lrange"}
    assert calls["cmdstat_lrange"]["calls"] == 1


async def test_a_creation_that_comes_again_leaves_the_history_as_it_was(stores: StoreFixture) -> None:
    """Also one that its own record does not know any more: another program deleted that."""
    task = stores.task()
    await stores.store.create(task)
    before = await stores.store.history(task.id)

    await stores.store.create(task)

    assert await stores.store.history(task.id) == before


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x93\xa11\xa6create",
        pack_words(["1", "create", "5"])[:-1],
        pack_words(["1", "create", "5"]) + b"\0",
        pack_words(["1", "create", "5", "tool"]),
        pack_words(["1", "build", "5"]),
        pack_words(["-1", "create", "5"]),
        b"\x93\x01\xa6create\xa15",
        b"\x93\xa11\xa6create\xa1\xff",
        b"\xdc",
        b"\xdc\xff\xff" + b"\xa0" * 9,
        b"\x91\xdb\xff\xff\xff\xff",
    ],
    ids=[
        "nothing",
        "short",
        "cut",
        "more",
        "half a fact",
        "move",
        "number",
        "int",
        "utf-8",
        "array",
        "count",
        "length",
    ],
)
def test_what_is_no_event_is_refused(packed: bytes) -> None:
    with pytest.raises(DecryptionFailed, match="cannot be read"):
        event_of("task", packed)


def test_an_event_of_many_facts_is_read_like_one_of_few() -> None:
    facts = {f"fact{number}": "x" * 10 * number for number in range(40)}
    event = Event(7, Move.ANSWER, 1_764_480_000_000, {name: value or None for name, value in facts.items()})

    assert event_of("task", pack_event(event)) == event
