"""Chaos on a Redis cluster: a deployment on it, and what can go wrong with the nodes that have its slot."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskmill.store.formats.cluster_address import slot_of
from taskmill.store.formats.keys import Keys
from tests.chaos.deployment import Deployment, pass_time
from tests.chaos.faults import Faults
from tests.support.redis_cluster import ClusterNodes, running_cluster

__all__ = ["ClusterDeployment", "ClusterFaults"]

SLOT = slot_of("taskmill")
_KEYS_A_STEP = 200
"""Of the slot that moves."""


class ClusterDeployment(Deployment):
    """Three primaries, a replica for each, and no proxy: nodes send clients from one to another by their addresses."""

    cluster: ClusterNodes

    def __init__(
        self, folder: Path, *, workers: int, lease: float, cut_rate: float, seed: int, **settings: float
    ) -> None:
        super().__init__(folder, workers=workers, lease=lease, cut_rate=cut_rate, seed=seed, **settings)
        self.keys = Keys(in_cluster=True)
        self._stack = ExitStack()

    async def start_redis(self) -> None:
        """Start the nodes, and return once they are a cluster."""
        nodes = running_cluster(appendonly="yes", appendfsync="no")
        self.cluster = await asyncio.to_thread(self._stack.enter_context, nodes)
        self.redis_url = self.cluster.url

    async def restart_redis(self) -> None:
        """Start the nodes that are down, and finish a move that was broken off."""
        await self.cluster.restart_dead()
        await self.cluster.mend_move(SLOT)

    async def client(self) -> Redis:
        """A client of the primary, to be closed."""
        return Redis.from_url((await self.cluster.owner(SLOT)).url)

    def calm(self) -> None:
        """No connection is cut."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._stack.close()


class ClusterFaults(Faults):
    """Those of the processes, and in place of Redis's own those of a cluster."""

    _deployment: ClusterDeployment

    def _shuffled(self) -> list[Callable[[], Awaitable[None]]]:
        of_one_redis = {"_kill_redis", "_leave_without_redis", "_fill_redis", "_move_clock"}
        deck = [fault for fault in super()._shuffled() if fault.__name__ not in of_one_redis]
        deck += [self._kill_primary, self._hand_over, self._move_slot, self._move_slot]
        deck += [self._leave_without_slot, self._fill_primary]
        self._chance.shuffle(deck)
        return deck

    async def _kill_primary(self) -> None:
        """Its replica is promoted, and it comes back as the replica's replica."""
        await self._deployment.cluster.kill_primary(SLOT)
        await pass_time(self._chance.uniform(0, 1))
        await self._deployment.cluster.restart_dead()

    async def _leave_without_slot(self) -> None:
        """The primary and its replica are gone, and come back with what they have on their disks."""
        cluster = self._deployment.cluster
        primary = await cluster.owner(SLOT)
        replica = await cluster.replica_of(primary)
        primary.kill()
        await pass_time(0.2)  # what it has sent reaches the replica's file; that one may be the first to come back
        replica.kill()
        await pass_time(self._outage)
        await cluster.restart_dead()

    async def _hand_over(self) -> None:
        """To a replica, as for maintenance."""
        await self._deployment.cluster.fail_over(SLOT)
        await self._deployment.cluster.settle()

    async def _move_slot(self) -> None:
        """To another primary, key by key."""
        await self._deployment.cluster.move(SLOT, _KEYS_A_STEP)

    async def _fill_primary(self) -> None:
        """No memory for another write, for a while."""
        async with await self._deployment.client() as redis:
            with suppress(RedisError):
                await redis.config_set("maxmemory", 1 << 20)
                await pass_time(self._chance.uniform(0.5, 2))
            await redis.config_set("maxmemory", 0)
