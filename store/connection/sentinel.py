"""The Redis that Sentinels watch: its address is asked for at each connection, so that a failover is followed.

`redis+sentinel://[user:password@]host:26379,host:26379,host:26379/name[/db][?sentinel_password=...]`; with
`rediss+sentinel://` both the Sentinels and Redis are spoken to over TLS.
"""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from redis import sentinel as blocking
from redis.asyncio import sentinel as asynchronous
from redis.asyncio.connection import Connection, SSLConnection

from taskmill.store.formats.tls_options import tls_options

__all__ = ["FollowsPrimary", "SentinelTarget", "sentinel_target_of"]

_asynchronous: Any = asynchronous.Sentinel  # redis-py types neither
_blocking: Any = blocking.Sentinel
_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_PORT = 26379
_SENTINEL_TIMEOUT = 1.0
"""Seconds that one Sentinel gets to answer before the next is asked."""


@dataclass(frozen=True, slots=True)
class SentinelTarget:
    """A Redis by the name that Sentinels know it by."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    options: dict[str, Any]
    """For connections to Redis: db, username, password, and how a certificate is checked."""
    sentinel_options: dict[str, Any]
    """For connections to Sentinels."""
    is_tls: bool

    def connection_class(self) -> type[Connection]:
        """A class of connections to the Redis that is the primary when they are opened."""
        base = SSLConnection if self.is_tls else Connection
        return type("WatchedConnection", (FollowsPrimary, base), {"target": self, "latest": []})

    async def primary(self) -> tuple[str, int]:
        """Where the primary is now.

        Raises:
            ConnectionError: no Sentinel knows.
        """
        sentinel: Any = _asynchronous(self.sentinels, sentinel_kwargs=self.sentinel_options)
        try:
            host, port = await sentinel.discover_master(self.name)
            return str(host), int(port)
        finally:
            for one in sentinel.sentinels:
                await one.aclose()

    def blocking_client(self, **options: Any) -> Any:
        """A blocking client of the primary, for a thread of its own."""
        sentinel = _blocking(self.sentinels, sentinel_kwargs=self.sentinel_options)
        return sentinel.master_for(self.name, ssl=self.is_tls, **self.options, **options)


class _Target(Protocol):
    async def primary(self) -> tuple[str, int]: ...


class FollowsPrimary:
    """Mixed into a redis-py connection: asks where the primary is before it connects."""

    target: _Target
    latest: list[tuple[str, int]]
    """Where the last connection of this class went, for all of them."""
    is_connected: bool
    host: str
    port: int

    @property
    def is_outdated(self) -> bool:
        """Whether another connection found that this one's Redis is no longer the primary."""
        return self.latest != [(self.host, self.port)]

    async def connect(self) -> None:
        """Connect, unless connected; not to a Redis that is no longer the primary."""
        if self.is_connected and self.is_outdated:
            await super().disconnect()  # type: ignore[misc]  # mixed into a redis-py class
        if not self.is_connected:
            self.latest[:] = [await self.target.primary()]
            self.host, self.port = self.latest[0]
        await super().connect()  # type: ignore[misc]  # see above


def sentinel_target_of(url: str) -> SentinelTarget | None:
    """What an address of this form names; None for an address of another form.

    Raises:
        ValueError: it has no Sentinel or no name in it.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        return None
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, db = parts.path.strip("/").partition("/")
    if not hosts or not name:
        raise ValueError("no Sentinel, or no name of the Redis it watches")
    is_tls = parts.scheme == "rediss+sentinel"
    username, _, password = user.partition(":")
    options = {"db": int(db or 0), "username": unquote(username) or None, "password": unquote(password) or None}
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    tls = tls_options(query, is_tls=is_tls)
    limits = {"socket_timeout": _SENTINEL_TIMEOUT, "socket_connect_timeout": _SENTINEL_TIMEOUT}
    login = {"username": query.get("sentinel_username"), "password": query.get("sentinel_password")}
    return SentinelTarget(
        sentinels=tuple(map(_address, hosts.split(","))),
        name=unquote(name),
        options={**options, **tls},
        sentinel_options={
            **limits,
            **login,
            **({"ssl": True, **tls} if is_tls else {}),
        },
        is_tls=is_tls,
    )


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError("a Sentinel without a host")
    return parts.hostname, parts.port or _PORT
