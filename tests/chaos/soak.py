"""A long even load with a kill now and then: memory must not creep, and what is over must leave nothing in Redis.

scripts/soak --hours 8
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.clients import json_of
from tests.chaos.deployment import REPLICAS, Deployment, pass_time
from tests.chaos.wire_client import Lost, Refused, Wire

__all__ = ["Plan", "Report", "soak"]

BASE = frozenset({"all", "list", "dead", "fading", "ended", "epoch", "secret", "sessions"})
"""Keys that there is one of for all tasks; entries of those that are gone leave it with the next creations."""
_KILLED = ("worker-1", REPLICAS[1])
"""Those that die, in turn; the others live from the first minute to the last, and are weighed."""


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    hours: float
    folder: Path
    rate: float = 50.0
    """Tasks a second."""
    kill_every: float = 60.0
    retention: float = 10.0
    """Seconds that an ended task is kept."""


@dataclass
class Report:
    """What came of it."""

    answered: int = 0
    lost: int = 0
    """Calls whose connection broke: their server was killed."""
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    memory: dict[str, list[int]] = field(default_factory=dict)
    """Process -> bytes in use, in even steps."""
    keys_before: Counter[str] = field(default_factory=Counter)
    keys_after: Counter[str] = field(default_factory=Counter)

    def drift(self, name: str) -> float:
        """How much more a process used in the last fifth of the run than in its second; 0.05 = 5 %."""
        samples = self.memory[name]
        fifth = max(1, len(samples) // 5)
        early, late = statistics.median(samples[fifth : 2 * fifth]), statistics.median(samples[-fifth:])
        return late / early - 1

    @property
    def left_over(self) -> dict[str, int]:
        """Keys at the end that were not there at the beginning, by family."""
        return {family: count for family, count in (self.keys_after - self.keys_before).items() if family not in BASE}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.answered} tasks answered, {self.lost} calls cut by {self.kills} kills, {len(self.wrong)} wrong"
        yield from self.wrong[:20]
        for name, samples in self.memory.items():
            yield f"{name}: {samples[0] / 1e6:.1f} MB, then {samples[-1] / 1e6:.1f}: {self.drift(name):+.1%}"
        yield f"keys left over: {self.left_over or 'none'}"


async def soak(plan: Plan) -> Report:
    """Carry a plan out."""
    report = Report()
    deployment = Deployment(plan.folder, workers=2, lease=3, cut_rate=0, seed=0, retention_limit=plan.retention)
    with deployment:
        await deployment.start()
        async with Redis.from_url(deployment.redis.url) as redis:
            report.keys_before = await _families(redis)
            watch = asyncio.create_task(_watch(deployment, redis, report, max(0.5, plan.hours * 36)))
            kills = asyncio.create_task(_kill(deployment, report, plan.kill_every))
            try:
                await _load(plan, deployment, report)
            finally:
                for task in (watch, kills):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
            await _until_gone(redis, plan.retention + 30)
            report.keys_after = await _families(redis)
    return report


async def _load(plan: Plan, deployment: Deployment, report: Report) -> None:
    began, total = time.monotonic(), int(plan.hours * 3600 * plan.rate)
    room = asyncio.Semaphore(int(plan.rate * 6))
    chance = random.Random(0)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)

    async def one(n: int, http: httpx2.AsyncClient) -> None:
        wire = Wire(http, deployment.urls, "ann", chance)
        tool = chance.choice(["quick", "stroll", "flaky", "walk"])
        more = {"seconds": 0.1} if tool in ("stroll", "walk") else {}
        try:
            result = await wire.ask("tools/call", {"name": tool, "arguments": {"n": n, **more}}, tasks=False)
            said = json_of(result["content"][0]["text"])
            report.answered += 1
            if said.get("n") != n:
                report.wrong.append(f"{tool} {n} was answered with {json.dumps(result)[:200]}")
        except Lost:
            report.lost += 1
        except Refused as refused:
            report.wrong.append(f"{tool} {n} was refused: {refused}")
        finally:
            room.release()

    async with httpx2.AsyncClient(timeout=60, limits=limits) as http, asyncio.TaskGroup() as group:
        for n in range(total):
            await room.acquire()
            group.create_task(one(n, http))
            await pass_time(began + n / plan.rate - time.monotonic())


async def _kill(deployment: Deployment, report: Report, every: float) -> None:
    while True:
        for name in _KILLED:
            await pass_time(every)
            await deployment.kill(name)
            report.kills += 1
            if name in deployment.workers:
                deployment.start_worker(name)
            else:
                deployment.start_replica(name)


async def _watch(deployment: Deployment, redis: Redis, report: Report, every: float) -> None:
    while True:
        for name in ("worker-2", REPLICAS[0]):
            report.memory.setdefault(name, []).append(deployment.memory(name))
        with suppress(RedisError):
            info = await redis.info("memory")
            report.memory.setdefault("redis", []).append(int(info["used_memory"]))
        await pass_time(every)


async def _until_gone(redis: Redis, patience: float) -> None:
    """Wait until every task is over and forgotten, by the store's own expiry."""
    deadline = time.monotonic() + patience
    while (await _families(redis))["task"] and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


async def _families(redis: Redis) -> Counter[str]:
    """Keys by family, without those of other families than `task` that will go by themselves."""
    families: Counter[str] = Counter()
    names = [name.decode() async for name in redis.scan_iter(count=1000)]
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.pttl(name)
        ttls = await pipe.execute() if names else []
    for name, ttl in zip(names, ttls, strict=True):
        family = name.removeprefix("{taskmill}:").partition(":")[0]
        if ttl == -1 or family == "task":
            families[family] += ttl != -2
    return families


def main() -> int:
    """0: nothing wrong, nothing left over, memory within the limit."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--drift", type=float, default=0.05, help="how much memory may creep, as a part")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"logs and journals in {folder}", flush=True)
    report = asyncio.run(soak(Plan(options.hours, folder, options.rate, options.kill_every)))
    print("\n".join(report.lines()))
    creeps = [name for name in report.memory if report.drift(name) > options.drift]
    return bool(report.wrong or report.left_over or creeps)


if __name__ == "__main__":
    raise SystemExit(main())
