"""Whose turn it is, on real workers: fair under load, lanes across processes and deaths, several queues."""

import asyncio
import os
import signal
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from taskmill.engine.principal import principal_of
from taskmill.engine.record import Lane, NewTask
from taskmill.store.claims.claims import Claims
from taskmill.store.settings import StoreSettings
from taskmill.workers import loop
from taskmill.workers.claimer import Claimer
from taskmill.workers.loop import WorkerLoop
from tests.support.replica import working
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment
from tests.workers.tools import mcp

_MANY = 10_000 if os.environ.get("TASKMILL_TEST_LONG") else 2_000
SOMEBODY = principal_of("https://issuer.example", "desktop", "ann")
ANOTHER = principal_of("https://issuer.example", "desktop", "bob")


def napping(deployment: Deployment, seconds: float, **changes: object) -> NewTask:
    return replace(deployment.task("nap", journal=str(deployment.journal), seconds=seconds), **changes)  # type: ignore[arg-type]


@pytest.mark.timeout(180)
async def test_one_task_starts_within_a_second_beside_thousands_of_another_principal(deployment: Deployment) -> None:
    """10,000 where TASKMILL_TEST_LONG is set; a place in line costs the same beside 2,000."""
    creations = [deployment.store.create(napping(deployment, 0.05, principal=SOMEBODY)) for _ in range(_MANY)]
    for at in range(0, len(creations), 100):
        await asyncio.gather(*creations[at : at + 100])
    await deployment.worker(poll=60, concurrency=4)
    await deployment.noted("start", times=8)

    began = monotonic()
    one = await deployment.store.create(napping(deployment, 0, principal=ANOTHER))
    note = await deployment.noted("start", one.record.id)

    print(f"started after {(note.at - began) * 1000:.0f} ms, beside {_MANY} queued tasks of another principal")
    assert note.at - began < PROMPTLY
    assert await deployment.redis.zcard(deployment.keys.queue("default")) > _MANY / 2


@pytest.mark.usefixtures("short_lease")
async def test_a_lane_holds_across_workers_and_a_dead_ones_place_is_not_lost(deployment: Deployment) -> None:
    """Nobody runs beside a task that is taken over, and it is taken over within the lease."""
    lane = Lane("repository", 1)
    first = await deployment.worker(poll=60)
    gate = deployment.gate()
    tasks = [
        replace(
            deployment.task("walk", journal=str(deployment.journal), gates=[str(gate)]), lane=lane, principal=principal
        )
        for principal in (SOMEBODY, ANOTHER, SOMEBODY)
    ]
    for task in tasks:
        await deployment.store.create(task)
    await deployment.noted("start", times=1)
    await deployment.worker(poll=0.2)
    first.send(signal.SIGKILL)
    again = await deployment.noted("start", times=2)
    gate.touch()
    for task in tasks:
        await deployment.done(task.id)

    assert (again.task_id, again.attempt) == (tasks[0].id, 2)
    moments = sorted([*deployment.notes("start")[1:], *deployment.notes("finish")], key=lambda note: note.at)
    assert [note.what for note in moments] == ["start", "finish"] * 3


async def test_tasks_outside_a_full_lane_start_at_once_though_hundreds_wait_for_it(deployment: Deployment) -> None:
    await deployment.worker(poll=60, concurrency=3)
    lane = Lane("slow", 1)
    for _ in range(300):
        await deployment.store.create(napping(deployment, 60, lane=lane))
    await deployment.noted("start", times=1)

    delays = []
    for _ in range(5):
        began = monotonic()
        task_id = await deployment.create_noted("quick")
        delays.append((await deployment.noted("start", task_id)).at - began)

    assert max(delays) < PROMPTLY


async def test_a_worker_of_idle_lanes_does_not_ask_redis_again_and_again(deployment: Deployment) -> None:
    await deployment.worker(poll=60, concurrency=3, lease=180)
    for _ in range(50):
        await deployment.store.create(napping(deployment, 60, lane=Lane("rate", 1, (1, 60_000), is_left_at_start=True)))
    await deployment.noted("start", times=1)
    before = (await deployment.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]

    await eventually_async(lambda: deployment.redis.pttl(deployment.keys.starts("rate")), lambda ms: ms < 59_000)

    after = (await deployment.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before < 15


@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_an_idle_worker_does_not_ask_redis_again_and_again(deployment: Deployment, concurrency: int) -> None:
    """A claim takes the free places while it is under way: it must not be taken for a full worker that frees up."""
    await deployment.worker(poll=60, concurrency=concurrency, lease=180)
    await deployment.done(await deployment.create_noted("quick"))
    before = (await deployment.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    began = await deployment.redis.time()

    await eventually_async(deployment.redis.time, lambda now: now[0] > began[0] + 1)

    assert (await deployment.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before < 10


async def test_one_worker_serves_the_queues_it_is_told_and_no_other(deployment: Deployment) -> None:
    await deployment.worker(poll=60, queue="mail,other", concurrency=1)
    unserved = await deployment.create_noted("quick")
    served = [
        deployment.task("quick", queue=name, journal=str(deployment.journal)) for name in ("mail", "other", "mail")
    ]
    for task in served:
        await deployment.store.create(task)
    for task in served:
        await deployment.done(task.id)

    assert (await deployment.record(unserved)).status == "pending"
    assert (await deployment.store.workers())[0]["queue"] == "mail,other"


async def test_long_tasks_of_one_caller_leave_a_slot_of_each_worker_to_others(deployment: Deployment) -> None:
    """14 tasks that do not end, and short ones of two other callers, which meet tasks of unequal length everywhere."""
    for _ in range(2):
        await deployment.worker(poll=60, concurrency=5)
    for _ in range(14):
        await deployment.store.create(napping(deployment, 600, principal=SOMEBODY))
    await deployment.noted("start", times=8)

    for number in range(6):
        task = napping(deployment, 0, principal=(ANOTHER, SOMEBODY[::-1])[number % 2])
        await deployment.store.create(task)
        await deployment.done(task.id)

    started = {note.task_id for note in deployment.notes("start")}
    assert len(started) == 8 + 6


async def test_tasks_of_other_callers_wake_a_worker_that_rests_with_only_its_reserved_slot_free(
    deployment: Deployment, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_REST", 600)
    async with working(mcp, StoreSettings(redis_url=redis_url, lease=180), concurrency=4, poll=60):
        for _ in range(6):
            await deployment.store.create(napping(deployment, 600, principal=SOMEBODY))
        await deployment.noted("start", times=3)

        for _ in range(6):
            task = napping(deployment, 0, principal=ANOTHER)
            await deployment.store.create(task)
            await deployment.done(task.id)

    assert len({note.task_id for note in deployment.notes("start")}) == 3 + 6


async def test_a_task_of_another_caller_that_comes_while_a_claim_is_not_answered_does_not_wait_for_the_next_look(
    deployment: Deployment, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim that was sent before it does not find it; its token is taken meanwhile."""
    monkeypatch.setattr(loop, "_REST", 600)
    begin, claim = WorkerLoop._begin, Claimer.settle_and_claim
    loops, executed, answers = set[WorkerLoop](), asyncio.Event(), asyncio.Event()
    answers.set()

    def noted(self: WorkerLoop, claims: Claims, room: int) -> None:
        loops.add(self)
        begin(self, claims, room)

    async def answered_later(*args: Any) -> Claims:
        claims = await claim(*args)
        executed.set()
        await answers.wait()
        return claims

    monkeypatch.setattr(WorkerLoop, "_begin", noted)
    monkeypatch.setattr(Claimer, "settle_and_claim", answered_later)
    async with working(mcp, StoreSettings(redis_url=redis_url, lease=180), concurrency=4, poll=60):
        for _ in range(6):
            await deployment.store.create(napping(deployment, 600, principal=SOMEBODY))
        await deployment.noted("start", times=3)
        (worker,) = loops
        await eventually_async(lambda: worker._rest is not None and not worker._batches)

        answers.clear()
        executed.clear()
        worker._end_rest()  # as its time does
        await executed.wait()
        task = napping(deployment, 0, principal=ANOTHER)
        await deployment.store.create(task)
        await eventually_async(lambda: deployment.redis.exists(deployment.keys.newcomer("default")), lambda n: n == 0)
        answers.set()
        await deployment.done(task.id)
