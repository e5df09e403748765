"""What can go wrong, one at a time, in an order that the seed decides. A fault is over when its function returns."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.deployment import REPLICAS, Deployment, pass_time, until
from tests.chaos.journal import Journal

__all__ = ["Faults"]


class Faults:
    """`outage`: seconds that Redis stays away."""

    def __init__(self, deployment: Deployment, journal: Journal, chance: random.Random, *, outage: float) -> None:
        self._deployment = deployment
        self._journal = journal
        self._chance = chance
        self._outage = outage
        self.counts: dict[str, int] = {}
        self._deck: list[Callable[[], Awaitable[None]]] = []

    async def run(self, pause: float) -> None:
        """One fault after another, until cancelled."""
        while True:
            if not self._deck:
                self._deck = self._shuffled()
            fault = self._deck.pop()
            name = fault.__name__.strip("_")
            self._journal.note(name)
            self.counts[name] = self.counts.get(name, 0) + 1
            await fault()
            await pass_time(self._chance.uniform(0.5, 1.5) * pause)
            # Otherwise a busy machine, on which a start takes its time, would be one that is never up.
            with suppress(TimeoutError):
                await until(self._is_up, within=20, what="everything up again")

    def mend(self) -> None:
        """Everything is up again."""
        for name in (*self._deployment.workers, *REPLICAS):
            self._deployment.signal(name, signal.SIGCONT)
        self._revive()

    def _shuffled(self) -> list[Callable[[], Awaitable[None]]]:
        deck = [
            *[self._kill_worker] * 3,
            *[self._stop_worker, self._pause_worker, self._pause_worker],
            *[self._kill_replica] * 2,
            *[self._move_clock] * (2 if self._deployment.redis.clock else 0),
            *[self._kill_redis, self._leave_without_redis, self._fill_redis, self._deploy],
        ]
        self._chance.shuffle(deck)
        return deck

    def _is_up(self) -> bool:
        self._revive()
        return all(self._deployment.is_up(name) for name in (*self._deployment.workers, *REPLICAS))

    def _revive(self) -> None:
        """Start again what has ended, also what a tool took down with it."""
        for name in self._deployment.workers:
            if not self._deployment.lives(name):
                self._deployment.start_worker(name)
        for name in REPLICAS:
            if not self._deployment.lives(name):
                self._deployment.start_replica(name)

    async def _kill_worker(self) -> None:
        await self._deployment.kill(self._some_worker())

    async def _stop_worker(self) -> None:
        name = self._some_worker()
        code = await self._deployment.stop(name)
        self._journal.note("exit", name, code)

    async def _pause_worker(self) -> None:
        """SIGSTOP for longer than the lease: it wakes up to tasks that are others' by now."""
        name = self._some_worker()
        self._deployment.signal(name, signal.SIGSTOP)
        await pass_time(self._deployment.lease * self._chance.uniform(1.2, 2))
        self._deployment.signal(name, signal.SIGCONT)

    async def _kill_replica(self) -> None:
        """In the middle of creations, replies and streams."""
        await self._deployment.kill(self._chance.choice(REPLICAS))

    async def _kill_redis(self) -> None:
        self._deployment.redis.kill()
        await asyncio.to_thread(self._deployment.redis.start)

    async def _leave_without_redis(self) -> None:
        self._deployment.redis.kill()
        await pass_time(self._outage)
        await asyncio.to_thread(self._deployment.redis.start)

    async def _fill_redis(self) -> None:
        """No memory for another write, for a while."""
        async with Redis.from_url(self._deployment.redis.url) as redis:
            with suppress(RedisError):
                await redis.config_set("maxmemory", 1 << 20)
                await pass_time(self._chance.uniform(0.5, 2))
            await redis.config_set("maxmemory", 0)

    async def _move_clock(self) -> None:
        """Forward past leases, or back, so that they last longer."""
        assert self._deployment.redis.clock is not None
        self._deployment.redis.clock.move(self._deployment.lease * self._chance.choice([-2, -1, 2, 20]))

    async def _deploy(self) -> None:
        """The other version of the tools, worker by worker: one of them does not know them all."""
        for name in self._deployment.workers:
            self._deployment.versions[name] = "1" if self._deployment.versions[name] == "2" else "2"
            await self._deployment.stop(name)
            self._deployment.start_worker(name)
        if "2" not in self._deployment.versions.values():
            self._deployment.versions[self._deployment.workers[0]] = "2"
            await self._deployment.kill(self._deployment.workers[0])

    def _some_worker(self) -> str:
        return self._chance.choice(self._deployment.workers)
