"""One run of chaos: a deployment, its clients, its faults, and the judgement when everything has come to rest."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.chaos.checker import problems_of, read_journals
from tests.chaos.clients import Client, Known, order_of
from tests.chaos.deployment import REPLICAS, Deployment, pass_time
from tests.chaos.faults import Faults
from tests.chaos.journal import Journal, lines_of
from tests.chaos.logs import surprises
from tests.chaos.wire_client import Lost, Refused, Wire
from tests.support.invariants import Found, read_redis

__all__ = ["Plan", "Report", "run"]

PRINCIPALS = ("ann", "bob", "eve")
_REST = 120.0
"""Seconds until everything has ended once nothing goes wrong any more."""


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    tasks: int
    seed: int
    minutes: float
    """How long creations are spread over."""
    folder: Path
    workers: int = 3
    lanes: int = 60
    """Clients at a time."""
    lease: float = 1.5
    cut_rate: float = 0.002
    outage: float = 2.0
    pause: float = 0.7
    """Seconds between two faults."""


@dataclass
class Report:
    """What came of it."""

    problems: list[str]
    acknowledged: int
    stored: int
    states: dict[str, int]
    faults: dict[str, int]
    cuts: dict[str, int]
    effects: int
    reclaims: int
    seconds: float
    expected: dict[str, int] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.acknowledged} tasks acknowledged, {self.stored} stored, {self.seconds:.0f} s"
        yield "ended: " + ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        yield f"{self.effects} effects, {self.reclaims} takeovers from workers that were silent"
        yield "faults: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(self.faults.items()))
        yield "connections cut: " + ", ".join(
            f"{count} {when} the command" for when, count in sorted(self.cuts.items())
        )
        yield f"{len(self.problems)} problems"
        yield from self.problems[:50]


async def run(plan: Plan, kind: type[Deployment] = Deployment, faults_of: type[Faults] = Faults, **more: Any) -> Report:
    """Carry a plan out. Its folder keeps every log and journal.

    `kind`, `faults_of`: what is deployed, and what goes wrong with it; `more` is for the first of them.
    """
    began = time.monotonic()
    chance = random.Random(plan.seed)
    deployment = kind(
        plan.folder,
        workers=plan.workers,
        lease=plan.lease,
        cut_rate=plan.cut_rate,
        seed=plan.seed,
        handoff_after=1,
        **more,
    )
    with deployment:
        await deployment.start()
        faults = faults_of(deployment, Journal(deployment.journals / "faults"), chance, outage=plan.outage)
        storm = asyncio.create_task(faults.run(plan.pause))
        try:
            await _with_clients(plan, deployment)
        finally:
            storm.cancel()
            with suppress(asyncio.CancelledError):
                await storm
        await deployment.restart_redis()
        deployment.calm()
        faults.mend()
        found = await _at_rest(deployment)
        return _report(plan, found, faults, time.monotonic() - began)


async def _with_clients(plan: Plan, deployment: Deployment) -> None:
    """Every order carried out, at an even pace.

    Raises:
        TimeoutError: none was for a long time.
    """
    known = Known()
    orders = iter(range(1, plan.tasks + 1))
    began, pace = time.monotonic(), plan.minutes * 60 / plan.tasks

    async def lane(number: int, http: httpx2.AsyncClient) -> None:
        journal = Journal(deployment.journals / f"client-{number}")
        mine = random.Random(plan.seed * 1000 + number)
        wire = Wire(http, deployment.urls, PRINCIPALS[number % len(PRINCIPALS)], mine)
        client = Client(wire, journal, known, mine)
        for n in orders:
            wait = began + n * pace - time.monotonic()
            if wait > 0:
                await pass_time(wait)
            await client.carry_out(order_of(n, mine, plan.lease))
            patience.reschedule(loop.time() + 4 * _REST)  # a slow machine takes longer; only a standstill ends the run

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=plan.lanes * 2)
    loop = asyncio.get_running_loop()
    async with (
        httpx2.AsyncClient(timeout=30, limits=limits) as http,
        asyncio.timeout(4 * _REST) as patience,
        asyncio.TaskGroup() as group,
    ):
        for number in range(plan.lanes):
            group.create_task(lane(number, http))


async def _at_rest(deployment: Deployment) -> Found:
    """Wait until no task is open and no client is owed anything, let every owner look once more, and read Redis."""
    async with await deployment.client() as redis:
        rest = time.monotonic() + _REST
        while await redis.zcard(deployment.keys.live) and time.monotonic() < rest:
            for name in deployment.workers:
                if not deployment.lives(name):
                    deployment.start_worker(name)
            await asyncio.sleep(0.1)
        await _last_looks(deployment)
        for name in (*deployment.workers, *REPLICAS):
            await deployment.stop(name)
        return await read_redis(redis, deployment.keys, chunk=20_000)


async def _last_looks(deployment: Deployment) -> None:
    """Each acknowledged task once more by its owner, through each replica."""
    created = read_journals(deployment.journals).created
    journal, chance = Journal(deployment.journals / "client-last"), random.Random(0)
    many = asyncio.Semaphore(20)

    async def look(http: httpx2.AsyncClient, task_id: str, url: str) -> None:
        wire = Wire(http, [url], created[task_id][2], chance)
        async with many:
            for _ in range(200):
                try:
                    task = await wire.ask("tasks/get", {"taskId": task_id})
                except Lost:
                    await asyncio.sleep(0.05)
                    continue
                except Refused as refused:
                    journal.note("missing", task_id, refused.code)
                    return
                content = (task.get("result") or {}).get("content") or [{}]
                journal.note("seen", task_id, task["status"], task["lastUpdatedAt"], content[0].get("text"))
                return
            journal.note("missing", task_id, 0)

    async with httpx2.AsyncClient(timeout=30) as http:
        urls = deployment.urls
        await asyncio.gather(*(look(http, task_id, urls[at % 2]) for at, task_id in enumerate(created)))


def _report(plan: Plan, found: Found, faults: Faults, seconds: float) -> Report:
    journals = read_journals(plan.folder / "journals")
    ids = found.ids()
    moves = Counter(event.move.value for task_id in ids for event in found.events(task_id))
    return Report(
        problems=[*problems_of(found, journals), *surprises(plan.folder)],
        acknowledged=len(journals.created),
        stored=len(ids),
        states=Counter(found.record(task_id).status.value for task_id in ids),
        faults=faults.counts,
        cuts=Counter(facts[0] for _what, _at, *facts in lines_of(plan.folder / "journals", "proxy")),
        effects=len(journals.effects),
        reclaims=moves["reclaim"],
        seconds=seconds,
    )
