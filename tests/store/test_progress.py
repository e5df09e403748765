"""Progress: the last word is kept, a word that says nothing new leaves no event."""

from dataclasses import replace

import pytest

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from tests.support.store_fixture import OWNER, Depot, question


async def test_progress_is_seen_and_leaves_an_event(depot: Depot) -> None:
    claimed = await depot.start()
    before = await depot.record(claimed.id)

    assert await depot.report((claimed.id, 1, Progress(1, 4, "one of four"))) == []

    after = await depot.record(claimed.id)
    said = Progress(1.0, 4.0, "one of four")
    assert after == replace(before, updated_ms=after.updated_ms, seq=3, progress=said)
    assert (await depot.store.history(claimed.id, after=2)) == [
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
async def test_progress_reads_back_exactly(depot: Depot, progress: Progress) -> None:
    claimed = await depot.start()

    await depot.report((claimed.id, 1, progress))

    assert (await depot.record(claimed.id)).progress == progress


async def test_progress_that_changes_nothing_leaves_no_event(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.report((claimed.id, 1, Progress(1, 4, "one")))

    async with depot.nothing_changes():
        assert await depot.report((claimed.id, 1, Progress(1, 4, "one"))) == []


async def test_the_first_progress_that_says_nothing_leaves_no_event(depot: Depot) -> None:
    claimed = await depot.start()

    async with depot.nothing_changes():
        assert await depot.report((claimed.id, 1, Progress())) == []


async def test_progress_may_go_back_and_may_forget(depot: Depot) -> None:
    claimed = await depot.start()
    steps = (
        Progress(3, 4, "3"),
        Progress(1, 4, "3"),
        Progress(1, 9, "3"),
        Progress(1, 9, "1"),
        Progress(1),
        Progress(),
    )
    for progress in steps:
        await depot.report((claimed.id, 1, progress))

        assert (await depot.record(claimed.id)).progress == progress


async def test_reports_of_many_tasks_go_in_one_call_and_each_loss_is_told(depot: Depot) -> None:
    kept, cancelled, released = [await depot.start() for _ in range(3)]
    await depot.store.cancel(cancelled.id, OWNER)
    await depot.release(released)
    said = Progress(1.0)

    lost = await depot.report(
        (cancelled.id, 1, said), (kept.id, 1, said), (released.id, 1, said), ("never-seen", 1, said)
    )

    assert lost == [cancelled.id, released.id, "never-seen"]
    assert (await depot.record(kept.id)).progress == said


@pytest.mark.parametrize("fence", [0, 2])
async def test_progress_under_another_fence_is_lost_and_changes_nothing(depot: Depot, fence: int) -> None:
    claimed = await depot.start()

    async with depot.nothing_changes():
        assert await depot.report((claimed.id, fence, Progress(1))) == [claimed.id]


async def test_progress_of_a_dead_workers_attempt_is_lost_once_another_has_the_task(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.lapse(claimed.id)
    await depot.take(claimed.id, depot.bob)

    async with depot.nothing_changes():
        assert await depot.report((claimed.id, claimed.fence, Progress(1))) == [claimed.id]


async def test_progress_while_a_question_is_open_leaves_the_question_open(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, 1, [question(1)])
    before = await depot.look(claimed.id)

    assert await depot.report((claimed.id, 1, Progress(1.0))) == []

    after = await depot.look(claimed.id)
    record = replace(before.record, seq=4, updated_ms=after.record.updated_ms, progress=Progress(1.0))
    assert after == replace(before, record=record)


async def test_progress_of_an_ended_task_is_lost_and_changes_nothing(depot: Depot) -> None:
    """I3: nothing follows the end."""
    claimed = await depot.start()
    await depot.finish(claimed)

    async with depot.nothing_changes():
        assert await depot.report((claimed.id, 1, Progress(1))) == [claimed.id]


async def test_an_event_is_never_dated_before_the_one_it_follows(depot: Depot) -> None:
    """I14: also when Redis's clock was set back, or a failover moved to a host whose clock is behind."""
    claimed = await depot.start()
    future = await depot.now_ms() + 3_600_000
    await depot.redis.hset(depot.keys.record(claimed.id), "updated_ms", future)  # type: ignore[misc]

    await depot.report((claimed.id, 1, Progress(1)))

    assert (await depot.record(claimed.id)).updated_ms == future
