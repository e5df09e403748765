"""Connections to Redis, and the one place where its failures become ours.

Start-up waits a few seconds for Redis and then checks that it is fit; later failures are `StoreUnavailable` at once.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from ssl import SSLCertVerificationError
from time import monotonic
from types import TracebackType
from typing import Any

import redis as blocking_redis
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from taskmill.engine.errors import OperatorError, RedisUnfit, SettingsError, StoreFull, StoreUnavailable
from taskmill.store.connection.checks import inspect, raise_unfit
from taskmill.store.connection.cluster import ClusterTarget, SlotUnavailable, cluster_target_of
from taskmill.store.connection.layout import open_layout
from taskmill.store.connection.multiplexed import MultiplexedRedis
from taskmill.store.connection.retry import retrying
from taskmill.store.connection.sentinel import sentinel_target_of
from taskmill.store.formats.tls_options import CHECKS_HOST, tls_options_of
from taskmill.store.seal_keys import open_keys
from taskmill.store.setting_names import setting_name
from taskmill.store.settings import StoreSettings

__all__ = [
    "TRANSIENT_ERRORS",
    "address_errors",
    "connect",
    "connect_blocking",
    "open_redis",
    "redacted_url",
    "store_errors",
]

log = structlog.get_logger()

TRANSIENT_ERRORS = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
"""Failures that end by themselves: no connection, a silent server, one that loads its file or is being replaced."""
_POOL = 64
_CLUSTER_RETRIES = 8
"""A slot that moves, or whose primary is being replaced, is waited for about two seconds."""
_KNOWN_CODES = re.compile(r"(?:^|-)(OOM|MISCONF|READONLY|MOVED) ")
"""Refusals that are reported with their reason. Before Redis 7 a script hides its code in the text."""


def redacted_url(url: str) -> str:
    """`url` without its password, for messages."""
    scheme = url.split("://")[0]
    if "password=" in url:
        return f"{scheme}://…"
    _, at, tail = url.rpartition("@")
    return f"{scheme}://…@{tail}" if at else url


def connect(settings: StoreSettings, *, blocking: bool = False, retries: int = 2) -> Redis:
    """A lazy client: one connection for single commands, and a pool for pipelines. `blocking` for commands that wait on
    purpose (subscriptions, BLPOP): a pool for all.

    `retries`: how often redis-py itself connects again and repeats a command before it raises.
    """
    url = _url(settings)
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    with address_errors():
        cluster = cluster_target_of(url, settings.prefix)
        retries = _CLUSTER_RETRIES if cluster and retries else retries
        # The pool whose callers wait for a free connection: redis-py's other pool raises when many callers come at
        # once, and connects one at a time, so that callers of a silent Redis would wait for each other's timeouts.
        pool = _pool(
            url,
            cluster,
            **keepalive,
            # An id that a caller made up may hold half a surrogate pair. No key has a question mark, so it finds none.
            encoding_errors="replace",
            socket_timeout=None if blocking else settings.command_timeout,
            socket_connect_timeout=min(2.0, settings.command_timeout),
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries),
            retry_on_error=[ConnectionError] if retries else [],
            max_connections=_POOL,
            timeout=settings.command_timeout,
        )
    pool.connection_class = type("Connection", (_SafeSending, pool.connection_class), {})
    return Redis.from_pool(pool) if blocking else MultiplexedRedis(pool, settings.command_timeout)


def _pool(url: str, cluster: ClusterTarget | None, **options: Any) -> BlockingConnectionPool:
    if cluster is not None:
        return BlockingConnectionPool(connection_class=cluster.connection_class(), **cluster.address.login, **options)
    target = sentinel_target_of(url)
    if target is None:
        return BlockingConnectionPool.from_url(url, **options, **tls_options_of(url))
    return BlockingConnectionPool(connection_class=target.connection_class(), **target.options, **options)


@contextmanager
def address_errors() -> Iterator[None]:
    """Errors of libraries that read the address, as ours.

    Raises:
        SettingsError: it is no address of a Redis.
    """
    try:
        yield
    except (ValueError, RuntimeError):  # arq raises the second; the text may quote a piece of the password
        raise SettingsError(
            f"{setting_name('redis_url')} is not a Redis address. Write redis://[user:password@]host:port/0, rediss:// "
            "for TLS, unix:///path, redis+sentinel://host:26379,host:26379/name, or "
            "redis+cluster://host:6379,host:6379; percent-encode '/', '#', '?' and '@' in a password."
        ) from None


class _SafeSending:
    """A connection whose sends end in an error that redis-py and we understand.

    Its transport may have been closed at this moment: uvloop then raises a RuntimeError for a write, and redis-py would
    not connect again. That can go when redis-py itself takes it for a broken connection. And the sender may be
    cancelled at this moment: `asyncio.wait_for` of Python 3.11 forgets that, and the cancelled task would wait for
    ever. That can go with Python 3.11.
    """

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """Send, or raise an error that counts as an outage, or the cancellation."""
        sending = asyncio.current_task()
        cancels = sending.cancelling() if sending else 0
        try:
            await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]  # mixed into a redis-py class
        except RuntimeError as exc:
            raise ConnectionError(str(exc)) from exc
        if sending and sending.cancelling() > cancels:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # no one will read the reply
            raise asyncio.CancelledError


def connect_blocking(settings: StoreSettings) -> Any:
    """A blocking client for a thread of its own (the lease renewer)."""
    url = _url(settings)
    limits = {
        "socket_timeout": settings.command_timeout,
        "socket_connect_timeout": min(2.0, settings.command_timeout),
    }
    with address_errors():
        target = cluster_target_of(url, settings.prefix) or sentinel_target_of(url)
        if target is not None:
            return target.blocking_client(**limits)
        return blocking_redis.Redis.from_url(url, **limits, **tls_options_of(url))


@asynccontextmanager
async def open_redis(settings: StoreSettings, *, timeout: float = 10.0) -> AsyncIterator[Redis]:
    """A client to a Redis that answers and is fit for the job; closed at the end. The seal keys are known inside.

    Raises:
        SettingsError: the seal keys cannot be read.
        StoreUnavailable: no answer within `timeout` seconds.
        RedisUnfit: too old, evicting, read-only, a cluster by an address that is none's, or with tasks of another
            layout; the message says what to change.
    """
    async with open_keys(settings), _opened(settings, timeout) as client:
        yield client


@asynccontextmanager
async def _opened(settings: StoreSettings, timeout: float) -> AsyncIterator[Redis]:
    client = connect(settings)
    try:
        with store_errors(redacted_url(_url(settings))):
            deadline = monotonic() + timeout
            findings = await retrying(
                partial(inspect, client, in_cluster=settings.keys().in_cluster),
                on=TRANSIENT_ERRORS,
                unless=_is_refused,
                gives_up=lambda _: monotonic() >= deadline,
            )
            raise_unfit(findings)
            await open_layout(client, settings.keys())
        for finding in findings:
            if finding.level == "warning":
                log.warning("redis.warning", check=finding.name, detail=finding.detail, remedy=finding.remedy)
        yield client
    finally:
        await client.aclose()


class store_errors:
    """Turns failures of Redis inside the block into ours.

    Raises:
        StoreUnavailable: it may end by itself.
        OperatorError: a person must act: wrong password, full memory.
    """

    __slots__ = ("_place",)

    def __init__(self, where: str | None = None) -> None:
        self._place = f" at {where}" if where else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: TracebackType | None) -> None:
        if isinstance(exc, TRANSIENT_ERRORS):
            raise _transient_error(exc, self._place) from exc
        if isinstance(exc, RedisError):
            raise _refusal_error(exc, self._place) from exc


def _transient_error(exc: BaseException, place: str) -> OperatorError:
    if isinstance(exc, SlotUnavailable):
        return StoreUnavailable(
            f"The Redis cluster{place} does not serve the slot of these tasks right now: it is being moved, or its "
            "primary replaced. Nothing was lost; try again in a moment."
        )
    if _is_refused(exc):
        return RedisUnfit(f"Redis{place} refused the user name or password in {setting_name('redis_url')}.")
    if (fault := _certificate_fault(exc)) is not None:
        return RedisUnfit(
            f"The certificate of Redis{place} is not accepted: {fault.verify_message.rstrip('.')}. To do: give it one "
            "that names this host, of an authority that this machine knows (SSL_CERT_FILE names a file of them), or, "
            f"where it cannot name the host, add ?{CHECKS_HOST}=false to the address."
        )
    return StoreUnavailable(f"Redis{place} cannot be reached right now. Nothing was lost; try again in a moment.")


def _certificate_fault(exc: BaseException | None) -> SSLCertVerificationError | None:
    """Why Redis' certificate was refused, if that is what broke a connection; redis-py hides it in its own errors."""
    while exc is not None and not isinstance(exc, SSLCertVerificationError):
        exc = exc.__cause__ or exc.__context__
    return exc


def _is_refused(exc: BaseException) -> bool:
    """Whether the password is wrong; on a unix socket redis-py hides that inside a failure to connect."""
    return isinstance(exc, AuthenticationError) or isinstance(exc.__cause__, AuthenticationError)


def _refusal_error(exc: RedisError, place: str) -> OperatorError:
    found = _KNOWN_CODES.search(str(exc))
    code = "OOM" if isinstance(exc, OutOfMemoryError) else found and found[1]
    match code:
        case "OOM":
            return StoreFull("Redis is out of memory: raise maxmemory, or wait for tasks to expire.", retry_after=30)
        case "MISCONF":
            return StoreUnavailable(f"Redis{place} cannot write to its disk, so it takes no writes: make room there.")
        case "READONLY":
            return StoreUnavailable(f"Redis{place} became a replica. Nothing was lost; try again in a moment.")
        case "MOVED":
            return RedisUnfit(f"Redis{place} is a node of a cluster. To do: write redis+cluster://host:port,host:port")
    return OperatorError(f"Redis{place} refused a command: {type(exc).__name__}")


def _url(settings: StoreSettings) -> str:
    if settings.redis_url is None:
        raise SettingsError(
            "No Redis: set TASKMILL_REDIS_URL, or start through `taskmill run`, which brings its own. "
            "A desktop host starts `taskmill stdio`: `taskmill install` configures it."
        )
    return settings.redis_url
