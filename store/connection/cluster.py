"""The primary of one slot of a Redis cluster: asked for at each connection, so that failovers and moves are followed.

A node that cannot serve the slot says so by an error reply (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) and has done nothing.
Here such a reply counts as a broken connection: what was sent is sent again, to the node that has the slot by then.
ASK is not followed. While a slot moves its keys are on two nodes, and a script needs all of them on one.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis as blocking_redis
from redis import connection as blocking_connection
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from taskmill.engine.errors import RedisUnfit
from taskmill.store.connection.checks import Finding
from taskmill.store.connection.sentinel import FollowsPrimary
from taskmill.store.formats.cluster_address import ClusterAddress, cluster_address_of, slot_of, tag_of

__all__ = ["ClusterTarget", "SlotUnavailable", "cluster_target_of"]

_TIMEOUT = 1.0
"""Seconds that one node gets to say where the slots are before the next is asked."""
_CODES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED")
"""How error replies begin by which a node does not serve the slot; the last is for a pop that was waiting there."""
Node = tuple[str, int]


class SlotUnavailable(ConnectionError):
    """A node does not serve the slot: it has moved or is moving, or its primary is being replaced."""


@dataclass(slots=True)
class ClusterTarget:
    """One slot of a cluster, for one client."""

    address: ClusterAddress
    slot: int
    nodes: list[Node] = field(default_factory=list)
    """All that are known; the one to ask first stands first."""

    def __post_init__(self) -> None:
        self.nodes.extend(self.address.nodes)

    def connection_class(self) -> type[Connection]:
        """A class of connections to the node that is the slot's primary when they are opened."""
        base = SSLConnection if self.address.is_tls else Connection
        return type("SlotConnection", (_FollowsSlot, base), {"target": self, "latest": []})

    async def primary(self) -> Node:
        """Where the slot's primary is now.

        Raises:
            ConnectionError: no node answers, or none knows a primary of the slot.
            RedisUnfit: a node is in no cluster.
        """
        return self._primary_in(await self.ranges())

    async def ranges(self) -> Sequence[Any]:
        """`CLUSTER SLOTS` of the first node that answers: first and last slot, primary, replicas.

        Raises:
            ConnectionError, RedisUnfit: see `primary`.
        """
        failure: Exception = ConnectionError("the cluster has no nodes")
        for node in tuple(self.nodes):
            client: Any = Redis(host=node[0], port=node[1], ssl=self.address.is_tls, **self.address.login, **_limits())
            try:
                ranges: Sequence[Any] = await client.execute_command("CLUSTER", "SLOTS")
                return self._learned(node, ranges)
            except (RedisError, OSError) as exc:
                failure = self._judged(node, exc)
            finally:
                with suppress(RedisError, OSError):
                    await client.aclose()
        raise failure

    def primary_blocking(self) -> Node:
        """`primary`, for a thread of its own."""
        failure: Exception = ConnectionError("the cluster has no nodes")
        for node in tuple(self.nodes):
            options: dict[str, Any] = {"ssl": self.address.is_tls, **self.address.login, **_limits()}
            try:
                with blocking_redis.Redis(host=node[0], port=node[1], **options) as client:
                    return self._primary_in(self._learned(node, client.execute_command("CLUSTER", "SLOTS")))
            except (RedisError, OSError) as exc:
                failure = self._judged(node, exc)
        raise failure

    def blocking_client(self, **options: Any) -> Any:
        """A blocking client of the primary, for a thread of its own."""
        base: Any = blocking_connection.SSLConnection if self.address.is_tls else blocking_connection.Connection
        kind = type("BlockingSlotConnection", (_FollowsSlotBlocking, base), {"target": self, "latest": []})
        again: dict[str, Any] = {
            "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), 4),
            "retry_on_error": [ConnectionError],
        }
        pool: Any = blocking_redis.ConnectionPool(connection_class=kind, **again, **self.address.login, **options)
        return blocking_redis.Redis.from_pool(pool)

    def translated(self, error: Exception) -> Exception:
        """An error reply by which a node does not serve the slot, as a broken connection; any other as it is."""
        code, _, rest = str(error).partition(" ")
        if code not in _CODES and not isinstance(error, ReadOnlyError):
            return error
        host, _, port = rest.rpartition(" ")[2].rpartition(":")
        if code == "MOVED" and host and port.isdigit():
            self._ask_first((host, int(port)))
        elif code not in ("ASK", "TRYAGAIN"):
            self.nodes.append(self.nodes.pop(0))  # the first may be cut off from the others
        return SlotUnavailable(str(error))

    async def findings(self) -> list[Finding]:
        """What is known of the slot and its nodes, for a person.

        Raises:
            ConnectionError, RedisUnfit: see `primary`.
        """
        ranges = await self.ranges()
        host, port = self._primary_in(ranges)
        replicas = next(len(found) - 3 for found in ranges if found[0] <= self.slot <= found[1])
        primaries = len({(found[2][0], found[2][1]) for found in ranges})
        count = f"{replicas} replica{'' if replicas == 1 else 's'}"
        detail = f"slot {self.slot}, on {host}:{port}, one of {primaries} primaries, with {count}"
        if replicas:
            return [Finding("cluster", "ok", detail)]
        return [Finding("cluster", "warning", detail, "give that primary a replica: its tasks are lost with it")]

    def _ask_first(self, node: Node) -> None:
        self.nodes[:] = [node, *(one for one in self.nodes if one != node)]

    def _learned(self, asked: Node, ranges: Sequence[Any]) -> Sequence[Any]:
        """`ranges` with the addresses as texts. Nodes of which no host is known have that of the node that says so."""
        read = [
            [first, last, *((_text(node[0]) or asked[0], int(node[1])) for node in nodes)]
            for first, last, *nodes in ranges
        ]
        found = {node for entry in read for node in entry[2:]}
        known = dict.fromkeys([*self.nodes, *sorted(found)])
        wanted = found.union(self.address.nodes) - {asked}
        # Another node is asked next time: this one may be cut off, and know of nothing new.
        self.nodes[:] = [*(node for node in known if node in wanted), asked]
        return read

    def _primary_in(self, ranges: Sequence[Any]) -> Node:
        for first, last, primary, *_ in ranges:
            if first <= self.slot <= last:
                host, port = primary
                return host, port
        raise SlotUnavailable(f"no node has slot {self.slot}")

    def _judged(self, node: Node, error: Exception) -> Exception:
        """The error to raise if no other node answers; raises what no other node would mend."""
        if isinstance(error, AuthenticationError):
            raise error
        if isinstance(error, NoPermissionError):
            raise RedisUnfit(
                f"The user of this Redis cluster may not ask for its slots ({error}). To do: "
                "ACL SETUSER <user> +cluster|slots"
            ) from error
        if isinstance(error, ResponseError) and "cluster support disabled" in str(error):
            raise RedisUnfit(
                f"Redis at {node[0]}:{node[1]} is in no cluster. To do: write redis:// in place of redis+cluster://"
            ) from error
        if self.nodes[0] == node:
            self.nodes.append(self.nodes.pop(0))
        return error if isinstance(error, ConnectionError | TimeoutError | OSError) else ConnectionError(str(error))


class _FollowsSlot(FollowsPrimary):
    """Mixed into an asynchronous redis-py connection."""

    target: ClusterTarget

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The reply; an error reply of a node that does not serve the slot as a broken connection."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]  # mixed into a redis-py class
        except ResponseError as exc:
            raise self.translated(exc) from None

    def translated(self, error: Exception) -> Exception:
        """See `ClusterTarget.translated`; all connections of this class then ask where the primary is."""
        found = self.target.translated(error)
        if isinstance(found, SlotUnavailable):
            self.latest.clear()
        return found


class _FollowsSlotBlocking:
    """Mixed into a blocking redis-py connection. Whenever one is lost, the next one asks where the primary is."""

    target: ClusterTarget
    latest: list[Node]
    host: str
    port: int

    def connect(self) -> None:
        """Connect, unless connected."""
        if not self.latest:
            self.latest[:] = [self.target.primary_blocking()]
        self.host, self.port = self.latest[0]
        super().connect()  # type: ignore[misc]  # mixed into a redis-py class

    def disconnect(self, *args: Any) -> None:
        """Disconnect, and forget where the primary was."""
        self.latest.clear()
        super().disconnect(*args)  # type: ignore[misc]  # see above

    def read_response(self, *args: Any, **options: Any) -> Any:
        """See `_FollowsSlot.read_response`."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]  # see above
        except ResponseError as exc:
            raise self.target.translated(exc) from None


def cluster_target_of(url: str, prefix: str) -> ClusterTarget | None:
    """The slot of a deployment with this prefix; None for an address that is no cluster's.

    Raises:
        ValueError: it cannot be read.
    """
    address = cluster_address_of(url)
    return None if address is None else ClusterTarget(address, slot_of(tag_of(prefix, address.part)))


def _limits() -> Mapping[str, Any]:
    return {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}


def _text(host: Any) -> str:
    """A host as `CLUSTER SLOTS` gives it; empty where it is not known."""
    found = host.decode() if isinstance(host, bytes) else str(host or "")
    return "" if found == "?" else found
