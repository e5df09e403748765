"""Progress: the last report is kept; a report without anything new makes no event."""

from dataclasses import replace

import pytest

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from tests.support.store_fixture import OWNER, StoreFixture, question


async def test_progress_is_seen_and_leaves_an_event(stores: StoreFixture) -> None:
    claimed = await stores.start()
    before = await stores.record(claimed.id)

    assert await stores.report((claimed.id, 1, Progress(1, 4, "one of four"))) == []

    after = await stores.record(claimed.id)
    progress = Progress(1.0, 4.0, "one of four")
    assert after == replace(before, updated_ms=after.updated_ms, seq=3, progress=progress)
    assert (await stores.store.history(claimed.id, after=2)) == [
        Event(3, Move.PROGRESS, after.updated_ms, {"done": 1.0, "total": 4.0, "message": "one of four"})
    ]


@pytest.mark.parametrize(
    "progress",
    [
        Progress(0, 0, None),
        Progress(None, None, "text: ünïcödé, \x00, \n, 'quote', \\"),
        Progress(1e-300, 1e300, None),
        Progress(-1.5, None, "1"),
        Progress(0.1 + 0.2, 1 / 3, None),
    ],
    ids=str,
)
async def test_progress_reads_back_exactly(stores: StoreFixture, progress: Progress) -> None:
    claimed = await stores.start()

    await stores.report((claimed.id, 1, progress))

    assert (await stores.record(claimed.id)).progress == progress


async def test_progress_that_changes_nothing_leaves_no_event(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.report((claimed.id, 1, Progress(1, 4, "one")))

    async with stores.nothing_changes():
        assert await stores.report((claimed.id, 1, Progress(1, 4, "one"))) == []


async def test_the_first_progress_without_values_leaves_no_event(stores: StoreFixture) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        assert await stores.report((claimed.id, 1, Progress())) == []


async def test_progress_may_go_back_and_may_forget(stores: StoreFixture) -> None:
    claimed = await stores.start()
    steps = (
        Progress(3, 4, "3"),
        Progress(1, 4, "3"),
        Progress(1, 9, "3"),
        Progress(1, 9, "1"),
        Progress(1),
        Progress(),
    )
    for progress in steps:
        await stores.report((claimed.id, 1, progress))

        assert (await stores.record(claimed.id)).progress == progress


async def test_reports_of_many_tasks_go_in_one_call_and_each_loss_is_reported(stores: StoreFixture) -> None:
    kept, cancelled, released = [await stores.start() for _ in range(3)]
    await stores.store.cancel(cancelled.id, OWNER)
    await stores.release(released)
    progress = Progress(1.0)

    lost = await stores.report(
        (cancelled.id, 1, progress), (kept.id, 1, progress), (released.id, 1, progress), ("never-seen", 1, progress)
    )

    assert lost == [cancelled.id, released.id, "never-seen"]
    assert (await stores.record(kept.id)).progress == progress


@pytest.mark.parametrize("fence", [0, 2])
async def test_progress_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        assert await stores.report((claimed.id, fence, Progress(1))) == [claimed.id]


async def test_progress_of_a_dead_workers_attempt_is_lost_once_another_has_the_task(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.lapse(claimed.id)
    await stores.take(claimed.id, stores.bob)

    async with stores.nothing_changes():
        assert await stores.report((claimed.id, claimed.fence, Progress(1))) == [claimed.id]


async def test_progress_while_a_question_is_open_leaves_the_question_open(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1)])
    before = await stores.read(claimed.id)

    assert await stores.report((claimed.id, 1, Progress(1.0))) == []

    after = await stores.read(claimed.id)
    record = replace(before.record, seq=4, updated_ms=after.record.updated_ms, progress=Progress(1.0))
    assert after == replace(before, record=record)


async def test_progress_of_an_ended_task_is_lost_and_changes_nothing(stores: StoreFixture) -> None:
    """I3: nothing follows the end."""
    claimed = await stores.start()
    await stores.finish(claimed)

    async with stores.nothing_changes():
        assert await stores.report((claimed.id, 1, Progress(1))) == [claimed.id]


async def test_an_event_is_never_dated_before_the_one_it_follows(stores: StoreFixture) -> None:
    """I14: also when Redis's clock was set back, or a failover moved to a host whose clock is behind."""
    claimed = await stores.start()
    future = await stores.now_ms() + 3_600_000
    await stores.redis.hset(stores.keys.record(claimed.id), "updated_ms", future)  # type: ignore[misc]

    await stores.report((claimed.id, 1, Progress(1)))

    assert (await stores.record(claimed.id)).updated_ms == future
