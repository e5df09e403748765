"""That the checker sees each promise broken: a sound little run, in which one thing is then made wrong."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from taskmill.engine.events import Event
from taskmill.engine.outcome import Returned
from taskmill.engine.status import Move
from taskmill.store.formats.events import event_of
from taskmill.store.settings import StoreSettings
from tests.chaos.checker import Journals, problems_of
from tests.chaos.logs import surprises
from tests.support.invariants import Found
from tests.support.packed_events import pack_event, repack
from tests.support.store_fixture import OWNER, StoreFixture


class Run:
    """What is left of one: `tasks` are one that completed, one taken over first, and one that was cancelled."""

    def __init__(self, found: Found, journals: Journals, tasks: list[str]) -> None:
        self.found = found
        self.journals = journals
        self.tasks = tasks


@pytest.fixture
async def left(redis: Redis, redis_url: str) -> AsyncIterator[Run]:
    stores = StoreFixture(redis, StoreSettings(redis_url=redis_url, lease=60))
    journals, tasks = Journals(), []
    for n, claims in enumerate([1, 2, 1]):
        task_id = await stores.create(tool="quick")
        tasks.append(task_id)
        journals.created[task_id] = (n, "quick", "ann")
        for attempt in range(1, claims + 1):
            claimed = await stores.take(task_id)
            journals.effects.append((task_id, attempt, attempt, n))
            if attempt < claims:
                await stores.lapse(task_id)
        journals.seen[task_id] = [("working", "2026-01-01T00:00:00.000Z", None)]
        if n == 2:
            await stores.store.cancel(task_id, OWNER)
            journals.wanted.add(task_id)
            journals.cancelled[task_id] = 1
            journals.seen[task_id] += [("cancelled", "2026-01-01T00:00:00.002Z", None)]
        else:
            text = f'{{"n": {n}, "task": "{task_id}", "fence": {claims}}}'
            await stores.finish(claimed, Returned({"content": [{"type": "text", "text": text}]}))
            journals.seen[task_id] += [("completed", "2026-01-01T00:00:00.001Z", text)]
            journals.told.append((n, "quick", False, text))
    journals.pried.append((tasks[0], "tasks/get", -32602))
    yield Run(await stores.found(), journals, tasks)
    await redis.flushall()


def test_a_sound_run_has_no_problems(left: Run) -> None:
    assert problems_of(left.found, left.journals) == []


def events_of(run: Run, task: int) -> list[bytes]:
    events: list[bytes] = run.found.values[run.found.keys.events(run.tasks[task])]
    return events


def drop_an_event(run: Run) -> None:
    del events_of(run, 1)[1]


def begin_with_a_claim(run: Run) -> None:
    events_of(run, 0)[0] = repack(events_of(run, 0)[0], move=Move.CLAIM)


def end_twice(run: Run) -> None:
    events_of(run, 0).append(pack_event(Event(4, Move.CANCEL, 9999999999999, {"fence": 2, "reason": "x"})))


def end_otherwise(run: Run) -> None:
    record = run.found.values[run.found.keys.record(run.tasks[0])]
    record[b"status"], record[b"reason"] = b"failed", b"poisoned"
    events_of(run, 0)[-1] = repack(events_of(run, 0)[-1], move=Move.FAIL, reason="poisoned")


def change_the_record(run: Run) -> None:
    run.found.values[run.found.keys.record(run.tasks[0])][b"attempt"] = b"7"


def repeat_a_fence(run: Run) -> None:
    events_of(run, 1)[2] = repack(events_of(run, 1)[2], fence=1)


def finish_under_an_old_fence(run: Run) -> None:
    record = run.found.values[run.found.keys.record(run.tasks[1])]
    record[b"fence"] = b"3"


def act_without_a_claim(run: Run) -> None:
    run.journals.effects.append((run.tasks[0], 2, 2, 0))


def succeed_without_an_effect(run: Run) -> None:
    run.journals.effects = [each for each in run.journals.effects if each[0] != run.tasks[0]]


def show_anothers_result(run: Run) -> None:
    text = f'{{"n": 1, "task": "{run.tasks[1]}", "fence": 2}}'
    run.journals.seen[run.tasks[0]][-1] = ("completed", "2026-01-01T00:00:00.001Z", text)


def repeat_a_step(run: Run) -> None:
    run.journals.steps[run.tasks[1]] = [("pack", 1), ("sail", 1), ("pack", 2)]


def keep_a_step_that_nobody_took(run: Run) -> None:
    text = f'{{"n": 1, "task": "{run.tasks[1]}", "fence": 2, "steps": [1, 2]}}'
    run.journals.steps[run.tasks[1]] = [("pack", 1), ("sail", 1)]
    run.journals.seen[run.tasks[1]][-1] = ("completed", "2026-01-01T00:00:00.001Z", text)


def deliver_anothers_parcel(run: Run) -> None:
    run.journals.fetched.append((run.tasks[0], f'{{"n": 1, "task": "{run.tasks[1]}", "fence": 2}}'))


def claim_what_is_claimed(run: Run) -> None:
    events_of(run, 1)[2] = repack(events_of(run, 1)[2], move=Move.CLAIM)


def take_back_a_cancel(run: Run) -> None:
    run.journals.seen[run.tasks[2]].insert(1, ("working", "2026-01-01T00:00:00.001Z", None))


def lose_an_acknowledged_task(run: Run) -> None:
    run.journals.created["gone"] = (9, "quick", "ann")


def refuse_the_owner(run: Run) -> None:
    run.journals.missing.append((run.tasks[0], -32602))


def answer_a_call_with_nothing(run: Run) -> None:
    run.journals.told.append((0, "quick", False, "something went wrong"))


def leave_it_in_the_queue(run: Run) -> None:
    run.found.values[run.found.keys.queue("default")] = [(run.tasks[0].encode(), 1.0)]


def never_end(run: Run) -> None:
    record = run.found.values[run.found.keys.record(run.tasks[0])]
    record[b"status"] = b"running"
    del events_of(run, 0)[-1]


def count_too_many(run: Run) -> None:
    run.found.values[run.found.keys.open(OWNER)] = [(run.tasks[0].encode(), 1.0)]


def show_two_ends(run: Run) -> None:
    run.journals.seen[run.tasks[0]].insert(1, ("failed", "2026-01-01T00:00:00.001Z", None))


def show_life_after_the_end(run: Run) -> None:
    run.journals.seen[run.tasks[0]].append(("working", "2026-01-01T00:00:00.003Z", None))


def show_another_end_than_is_stored(run: Run) -> None:
    run.journals.seen[run.tasks[0]][-1] = ("failed", "2026-01-01T00:00:00.001Z", None)


def show_a_stranger(run: Run) -> None:
    run.journals.pried.append((run.tasks[0], "tasks/get", 0))


def turn_back_the_clock(run: Run) -> None:
    run.journals.seen[run.tasks[0]][-1] = ("completed", "2025-01-01T00:00:00.000Z", None)


def change_nothing(run: Run) -> None:
    before = event_of(run.tasks[1], events_of(run, 1)[1])
    events_of(run, 1).insert(2, pack_event(Event(3, Move.ANSWER, before.at_ms, {"questions": 0})))
    for at, packed in enumerate(events_of(run, 1)):
        events_of(run, 1)[at] = repack(packed, seq=at + 1)


@pytest.mark.parametrize(
    ("invariant", "breaks"),
    [
        ("I1", drop_an_event),
        ("I2", begin_with_a_claim),
        ("I3", end_twice),
        ("I3", end_otherwise),
        ("I4", change_the_record),
        ("I5", repeat_a_fence),
        ("I6", finish_under_an_old_fence),
        ("I6", act_without_a_claim),
        ("I6", succeed_without_an_effect),
        ("I6", show_anothers_result),
        ("I6", repeat_a_step),
        ("I6", keep_a_step_that_nobody_took),
        ("I6", deliver_anothers_parcel),
        ("I7", claim_what_is_claimed),
        ("I8", take_back_a_cancel),
        ("I9", lose_an_acknowledged_task),
        ("I9", refuse_the_owner),
        ("I9", answer_a_call_with_nothing),
        ("I10", leave_it_in_the_queue),
        ("I10", never_end),
        ("I11", count_too_many),
        ("I12", show_two_ends),
        ("I12", show_life_after_the_end),
        ("I12", show_another_end_than_is_stored),
        ("I13", show_a_stranger),
        ("I14", turn_back_the_clock),
        ("I14", change_nothing),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_broken_promise_is_seen(left: Run, invariant: str, breaks: Callable[[Run], None]) -> None:
    breaks(left)

    assert [problem for problem in problems_of(left.found, left.journals) if f"{invariant}:" in problem]


def test_what_a_process_did_not_mean_to_say_is_seen(tmp_path: Path) -> None:
    (tmp_path / "replica-1.log").write_text('{"event": "task.created"}\n{"event": "request.crashed", "x": 1}\n' * 2)
    (tmp_path / "worker-1.log").write_text("Task exception was never retrieved\n")
    failed = '{"error": "%s", "event": "request.failed"}\n'
    (tmp_path / "replica-2.log").write_text(failed % "StoreUnavailable" + failed % "SealBroken")

    assert surprises(tmp_path) == [
        'replica-1.log: 2 x "request.crashed": {"event": "request.crashed", "x": 1}',
        'replica-2.log: 1 x "request.failed": {"error": "SealBroken", "event": "request.failed"}',
        "worker-1.log: 1 x was never retrieved: Task exception was never retrieved",
    ]
