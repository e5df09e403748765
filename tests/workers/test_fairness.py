"""Whose turn it is, on real workers: fair under load, lanes across processes and deaths, several queues."""

import asyncio
import os
import signal
from dataclasses import replace
from time import monotonic

import pytest

from taskmill.engine.principal import principal_of
from taskmill.engine.record import Lane, NewTask
from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage

_MANY = 10_000 if os.environ.get("TASKMILL_TEST_LONG") else 2_000
SOMEBODY = principal_of("https://issuer.example", "desktop", "ann")
ANOTHER = principal_of("https://issuer.example", "desktop", "bob")


def napping(stage: Stage, seconds: float, **changes: object) -> NewTask:
    return replace(stage.task("nap", journal=str(stage.journal), seconds=seconds), **changes)  # type: ignore[arg-type]


@pytest.mark.timeout(180)
async def test_one_task_starts_within_a_second_beside_thousands_of_another_principal(stage: Stage) -> None:
    """10,000 where TASKMILL_TEST_LONG is set; a place in line costs the same beside 2,000."""
    creations = [stage.store.create(napping(stage, 0.05, principal=SOMEBODY)) for _ in range(_MANY)]
    for at in range(0, len(creations), 100):
        await asyncio.gather(*creations[at : at + 100])
    await stage.worker(poll=60, concurrency=4)
    await stage.noted("start", times=8)

    began = monotonic()
    one = await stage.store.create(napping(stage, 0, principal=ANOTHER))
    note = await stage.noted("start", one.record.id)

    print(f"started after {(note.at - began) * 1000:.0f} ms, beside {_MANY} queued tasks of another principal")
    assert note.at - began < 1
    assert await stage.redis.zcard(stage.keys.queue("default")) > _MANY / 2


async def test_a_lane_holds_across_workers_and_a_dead_ones_place_is_not_lost(stage: Stage) -> None:
    """Nobody runs beside a task that is taken over, and it is taken over within the lease."""
    lane = Lane("repository", 1)
    first = await stage.worker(poll=60)
    gate = stage.gate()
    tasks = [
        replace(stage.task("walk", journal=str(stage.journal), gates=[str(gate)]), lane=lane, principal=principal)
        for principal in (SOMEBODY, ANOTHER, SOMEBODY)
    ]
    for task in tasks:
        await stage.store.create(task)
    await stage.noted("start", times=1)
    await stage.worker(poll=0.2)
    first.send(signal.SIGKILL)
    again = await stage.noted("start", times=2)
    gate.touch()
    for task in tasks:
        await stage.done(task.id, within=10)

    assert (again.task_id, again.attempt) == (tasks[0].id, 2)
    moments = sorted([*stage.notes("start")[1:], *stage.notes("finish")], key=lambda note: note.at)
    assert [note.what for note in moments] == ["start", "finish"] * 3


async def test_tasks_outside_a_full_lane_start_at_once_though_hundreds_wait_for_it(stage: Stage) -> None:
    await stage.worker(poll=60, concurrency=3)
    lane = Lane("slow", 1)
    for _ in range(300):
        await stage.store.create(napping(stage, 60, lane=lane))
    await stage.noted("start", times=1)

    delays = []
    for _ in range(5):
        began = monotonic()
        task_id = await stage.create_noted("quick")
        delays.append((await stage.noted("start", task_id)).at - began)

    assert sorted(delays)[2] < 0.2


async def test_a_worker_of_idle_lanes_does_not_ask_redis_again_and_again(stage: Stage) -> None:
    await stage.worker(poll=60, concurrency=3)
    for _ in range(50):
        await stage.store.create(napping(stage, 60, lane=Lane("rate", 1, (1, 60_000), is_left_at_start=True)))
    await stage.noted("start", times=1)
    before = (await stage.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]

    await asyncio.wait_for(
        eventually_async(lambda: stage.redis.pttl(stage.keys.starts("rate")), lambda ms: ms < 59_000), 5
    )

    after = (await stage.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before < 15  # its lease is renewed meanwhile


@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_an_idle_worker_does_not_ask_redis_again_and_again(stage: Stage, concurrency: int) -> None:
    """A claim takes the free places while it is under way: it must not be taken for a full worker that frees up."""
    await stage.worker(poll=60, concurrency=concurrency)
    await stage.done(await stage.create_noted("quick"))
    before = (await stage.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    began = await stage.redis.time()

    await eventually_async(stage.redis.time, lambda now: now[0] > began[0] + 1)

    assert (await stage.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before < 10


async def test_one_worker_serves_the_queues_it_is_told_and_no_other(stage: Stage) -> None:
    await stage.worker(poll=60, queue="mail,other", concurrency=1)
    unserved = await stage.create_noted("quick")
    served = [stage.task("quick", queue=name, journal=str(stage.journal)) for name in ("mail", "other", "mail")]
    for task in served:
        await stage.store.create(task)
    for task in served:
        await stage.done(task.id)

    assert (await stage.record(unserved)).status == "pending"
    assert (await stage.store.workers())[0]["queue"] == "mail,other"
