"""A real Redis cluster for tests: three primaries with a replica each, on this machine, with slots that can be moved.

Commands of the cluster are sent as an operator would send them; nothing of the product is used.
"""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import Any

from anyio import fail_after, sleep
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.redis_server import PrivateRedis, free_port

__all__ = ["PRIMARIES", "ClusterNodes", "running_cluster"]

PRIMARIES = 3
_SLOTS = 16384
_NODE_TIMEOUT = "1000"
"""Milliseconds after which the others take a silent node for failed."""


class ClusterNodes:
    """The servers; the first three begin as the primaries, and each of the others as the replica of one of them."""

    def __init__(self, servers: list[PrivateRedis]) -> None:
        self.servers = servers
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)

    async def form(self) -> None:
        """Make one cluster of the servers, and return once it serves every slot and every replica is in step."""
        first = self.servers[0]
        for number, server in enumerate(self.servers[:PRIMARIES]):
            await self.command(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            slots = range(number * _SLOTS // PRIMARIES, (number + 1) * _SLOTS // PRIMARIES)
            await self.command(server, "CLUSTER", "ADDSLOTS", *slots)
        for server in self.servers[1:]:
            await self.command(server, "CLUSTER", "MEET", "127.0.0.1", first.port)
        with fail_after(30):
            for number, replica in enumerate(self.servers[PRIMARIES:]):
                primary = await self.name_of(self.servers[number])
                while not await self._accepts(replica, "CLUSTER", "REPLICATE", primary):
                    await sleep(0.02)
        await self.settle()

    async def settle(self) -> None:
        """Return once all nodes that run agree on the owners of all slots, and every primary of them has a replica."""
        with fail_after(60):
            while not await self._is_settled():
                await sleep(0.02)

    async def _is_settled(self) -> bool:
        views = set()
        for server in self.servers:
            if server.process is None:
                continue
            info = await self.command(server, "CLUSTER", "INFO")
            ranges = await self.command(server, "CLUSTER", "SLOTS")
            links = await self.command(server, "INFO", "replication")
            if b"cluster_state:ok" not in info or b"master_link_status:down" in links:
                return False
            if any(len(found) < 4 for found in ranges):
                return False
            views.add(tuple((first, last, primary[1]) for first, last, primary, *_ in sorted(ranges)))
        return len(views) == 1

    async def owner(self, slot: int) -> PrivateRedis:
        """The slot's primary, as the first server that runs and knows has it."""
        for server in self.servers:
            with suppress(RedisError, OSError):
                for first, last, primary, *_ in await self.command(server, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return self._at(primary[1])
        raise AssertionError(f"no node has slot {slot}")

    async def replica_of(self, primary: PrivateRedis) -> PrivateRedis:
        """A replica of this server."""
        for _, _, found, *replicas in await self.command(primary, "CLUSTER", "SLOTS"):
            if found[1] == primary.port and replicas:
                return self._at(replicas[0][1])
        raise AssertionError("it has no replica")

    async def begin_move(self, slot: int) -> PrivateRedis:
        """Begin to move a slot to another primary, the one that is returned. Its keys are where they were."""
        source = await self.owner(slot)
        others = {await self._port_of(at) for at in (0, _SLOTS // 2, _SLOTS - 1)} - {source.port}
        target = self._at(min(others))
        await self.command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", await self.name_of(source))
        await self.command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", await self.name_of(target))
        return target

    async def move_keys(self, slot: int, target: PrivateRedis, count: int = 1_000_000) -> int:
        """Move so many of the slot's keys; how many there were."""
        source = await self.owner(slot)
        keys = await self.command(source, "CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            moved = "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *keys
            await self.command(source, "MIGRATE", *moved)
        return len(keys)

    async def end_move(self, slot: int, target: PrivateRedis) -> None:
        """Move what is left of the slot, and tell all primaries whose it is now."""
        source = await self.owner(slot)
        while await self.move_keys(slot, target):
            pass
        name = await self.name_of(target)
        with fail_after(30):
            for server in (target, source):
                while not await self._accepts(server, "CLUSTER", "SETSLOT", slot, "NODE", name):
                    await sleep(0.02)
        await self.settle()

    async def mend_move(self, slot: int) -> None:
        """End a move of the slot that was begun and broken off; nothing where there is none."""
        source = await self.owner(slot)
        nodes = (await self.command(source, "CLUSTER", "NODES")).decode()
        if found := re.search(rf"\[{slot}->-(\w+)\]", nodes):
            names = [(await self.name_of(server)).decode() for server in self.servers]
            await self.end_move(slot, self.servers[names.index(found[1])])

    async def move(self, slot: int, keys: int = 200) -> None:
        """Move a slot to another primary, so many keys at a time."""
        target = await self.begin_move(slot)
        while await self.move_keys(slot, target, keys):
            await sleep(0.01)
        await self.end_move(slot, target)

    async def kill_primary(self, slot: int) -> None:
        """Kill the slot's primary, once it has a replica that is in step, and return once that one is promoted."""
        await self.settle()
        dead = await self.owner(slot)
        dead.kill()
        with fail_after(60):
            while await self.owner(slot) is dead:
                await sleep(0.02)

    async def fail_over(self, slot: int) -> None:
        """Have a replica of the slot's primary take its place, as an operator does for maintenance."""
        primary = await self.owner(slot)
        replica = await self.replica_of(primary)
        with fail_after(60):
            for attempt in count():
                # Redis gives one up that takes longer than five seconds, as it may on a busy machine.
                if attempt % 300 == 0:
                    await self._accepts(replica, "CLUSTER", "FAILOVER")
                if (await self.owner(slot)).port == replica.port:
                    return
                await sleep(0.02)

    async def empty(self) -> None:
        """Delete all keys."""
        for server in self.servers:
            with suppress(RedisError, OSError):
                await self.command(server, "FLUSHALL")

    async def restart_dead(self) -> None:
        """Start the servers that were killed, and return once the cluster is whole again."""
        for server in self.servers:
            if server.process is None:
                await asyncio.to_thread(server.start)
        await self.settle()

    async def name_of(self, server: PrivateRedis) -> bytes:
        """The node's id."""
        return bytes(await self.command(server, "CLUSTER", "MYID"))

    async def command(self, server: PrivateRedis, *parts: Any) -> Any:
        """The reply as Redis gives it."""
        async with Redis.from_url(server.url) as client:
            client.response_callbacks.clear()
            return await client.execute_command(*parts)

    async def _accepts(self, server: PrivateRedis, *parts: Any) -> bool:
        try:
            await self.command(server, *parts)
        except RedisError:
            return False
        return True

    async def _port_of(self, slot: int) -> int:
        return (await self.owner(slot)).port

    def _at(self, port: int) -> PrivateRedis:
        return next(server for server in self.servers if server.port == port)


def _free_port() -> int:
    """A port that is free, and also the one on which the node talks to the others, which is 10,000 above it."""
    while True:
        port = free_port()
        with suppress(OSError, OverflowError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 10_000))
            return port


@contextmanager
def running_cluster(**settings: str) -> Iterator[ClusterNodes]:
    """Three primaries and their replicas. Keywords are Redis settings."""
    common = {
        "cluster_enabled": "yes",
        "cluster_node_timeout": _NODE_TIMEOUT,
        "cluster_replica_validity_factor": "0",
        "repl_diskless_sync": "yes",
        "repl_diskless_sync_delay": "0",
    }
    with ExitStack() as stack:
        servers = [PrivateRedis(port=str(_free_port()), **common, **settings) for _ in range(2 * PRIMARIES)]
        for server in servers:
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait()
        nodes = ClusterNodes(servers)
        asyncio.run(nodes.form())
        yield nodes
