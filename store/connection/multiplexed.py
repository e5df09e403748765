"""One connection to Redis for all commands of a client: many callers write, replies come back in order.

A command costs no connection, no task and no lock of its own, and all commands that are sent in one iteration of the
event loop are one write. This is for commands that answer at once; commands that wait on purpose (subscriptions,
BLPOP), and redis-py's pipelines, take connections of the client's pool.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import uniform
from time import monotonic
from typing import Any, TypeVar

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from taskmill.store.connection.cluster import SlotUnavailable
from taskmill.store.connection.redis_private import abandon, write_now
from taskmill.store.connection.reply_reader import ReplyReader

__all__ = ["MultiplexedRedis"]

T = TypeVar("T")
_RETRY_PAUSES = (0.02, 0.04)
"""Seconds before a command is repeated whose connection broke."""
_LONGEST_PAUSE = 0.25
"""Seconds between two attempts at a slot that no node of the cluster serves just now."""


class _Reply:
    """Stands in for a connection where redis-py reads a reply from one."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def read_response(self) -> Any:
        return self._reply


class _SharedConnection:
    """An open connection. Once broken it stays so."""

    def __init__(self, connection: Any, reply_timeout: float) -> None:
        """`connection`: redis-py's, connected; `reply_timeout`: seconds."""
        self._connection = connection
        self._reply_timeout = reply_timeout
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[float, asyncio.Future[Any]]] = deque()
        """When each reply that is still to come is too late, and the future that waits for it."""
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_broken = False
        self._reader = ReplyReader(connection, self._on_reply, self._fail_pending)

    def can_send(self) -> bool:
        """Whether commands may be sent; a connection to a Redis that is no longer the primary is given up."""
        if getattr(self._connection, "is_outdated", False) and not self._is_broken:
            self._give_up(ConnectionError("another Redis became the primary"))
        return not self._is_broken

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command; its reply, where an error of Redis is raised.

        At once where no reply is pending, else with the other commands of this iteration of the event loop.
        """
        is_idle, is_first = not self._pending, not self._unsent
        reply = self._queue(packed)
        if is_idle:
            self._flush()
        elif is_first:
            self._loop.call_soon(self._flush)
        return reply

    def send_many(self, packed: Iterable[bytes]) -> list[asyncio.Future[Any]]:
        """Send commands now, together with those that were to be sent later in this iteration; their replies."""
        replies = [self._queue(one) for one in packed]
        self._flush()
        return replies

    async def close(self) -> None:
        """Close it at once; pending commands fail."""
        self._give_up(ConnectionError("the client was closed"))
        await self._reader.is_closed.wait()

    def _queue(self, packed: bytes) -> asyncio.Future[Any]:
        if self._is_broken:  # since this caller asked, by what another one sent: no reply would ever come
            raise ConnectionError("the connection was lost")
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._unsent.append(packed)
        self._pending.append((self._loop.time() + self._reply_timeout, reply))
        if self._timer is None:
            self._timer = self._loop.call_later(self._reply_timeout, self._check_timeout)
        return reply

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._is_broken or not unsent:
            return
        try:
            write_now(self._connection, b"".join(unsent))
        except (OSError, RuntimeError) as exc:
            self._give_up(ConnectionError(f"Error while writing to the socket: {exc}"))

    def _on_reply(self, reply: Any) -> None:
        """Give a reply to its caller; a reply by which this Redis refuses all callers breaks the connection."""
        first = reply[0] if isinstance(reply, list) and reply else reply
        if isinstance(first, ConnectionError):
            self._give_up(first)
            return
        _, future = self._pending.popleft()
        if future.done():
            return  # its caller waits no longer
        if isinstance(reply, ResponseError):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _check_timeout(self) -> None:
        """Give up when the oldest reply is too late."""
        self._timer = None
        if not self._pending:
            return
        remaining = self._pending[0][0] - self._loop.time()
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._check_timeout)
        else:
            self._give_up(ConnectionError("the connection was given up: Redis did not answer in time"))

    def _give_up(self, error: Exception) -> None:
        self._fail_pending(error)
        self._reader.abort()

    def _fail_pending(self, error: Exception) -> None:
        """Fail all pending commands: those whose reply is too late with a timeout, the rest with `error`."""
        self._is_broken = True
        if self._timer is not None:
            self._timer.cancel()
        abandon(self._connection)
        now, pending, self._pending = self._loop.time(), self._pending, deque()
        for late_at, future in pending:
            if not future.done():
                future.set_exception(TimeoutError("Redis did not answer in time") if late_at <= now else error)


class MultiplexedRedis(Redis):
    """redis-py's client, whose single commands share one connection. Pipelines and subscriptions take from the pool."""

    _is_closed = False
    _shared: _SharedConnection | None = None
    _opening: "asyncio.Task[_SharedConnection] | None" = None

    def __init__(self, pool: BlockingConnectionPool, reply_timeout: float) -> None:
        """`reply_timeout`: seconds. The pool is closed with this client."""
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._reply_timeout = reply_timeout

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command and return its reply; errors are redis-py's."""
        packed = self._pack(args)
        reply = await self._with_reconnect(lambda shared: shared.send(packed))
        if not options and args[0] not in self.response_callbacks:
            return reply
        return await self.parse_response(_Reply(reply), args[0], **options)  # type: ignore[arg-type]  # reads alike

    async def execute_many(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Execute commands one after the other, in one round trip; their replies as Redis gave them.

        A refusal stands where its reply would. When the connection breaks all are sent again.
        """
        packed = [self._pack(command) for command in commands]

        async def send(shared: _SharedConnection) -> list[Any]:
            replies: list[Any] = await asyncio.gather(*shared.send_many(packed), return_exceptions=True)
            for reply in replies:
                if isinstance(reply, BaseException) and not isinstance(reply, ResponseError):
                    raise reply
            return replies

        return await self._with_reconnect(send)

    def _pack(self, args: Sequence[Any]) -> Any:
        parts = (*args[0].split(), *args[1:])
        try:
            return pack_command(parts)
        except UnicodeEncodeError:  # half a surrogate pair in an id that a caller made up
            pool: Any = self.connection_pool
            return pack_command(tuple(map(pool.get_encoder().encode, parts)))

    async def _with_reconnect(self, send: Callable[[_SharedConnection], Awaitable[T]]) -> T:
        """What `send` gets of the open connection; of another one when that breaks.

        A slot of a cluster that moves is waited for as long as a reply would be.
        """
        failures, began = 0, 0.0
        while True:
            shared = self._shared  # while this caller waited, others may have opened another
            try:
                if shared is None or not shared.can_send():
                    shared = await self._opened()
                return await send(shared)
            except ConnectionError as exc:
                began = began or monotonic()
                if isinstance(exc, SlotUnavailable) and monotonic() - began < self._reply_timeout:
                    pause = min(_LONGEST_PAUSE, _RETRY_PAUSES[0] * 2 ** min(failures, 5)) * uniform(0.5, 1)
                elif failures < len(_RETRY_PAUSES) and not isinstance(exc, AuthenticationError):
                    pause = _RETRY_PAUSES[failures]
                else:
                    raise
                failures += 1
                await asyncio.sleep(pause)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close everything, for good."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._shared is not None:
            await self._shared.close()
        await super().aclose(close_connection_pool)

    async def _opened(self) -> _SharedConnection:
        """The open connection; all who ask while it is being opened wait for the same attempt."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="taskmill.connection.open")
            self._opening.add_done_callback(self._on_opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _SharedConnection:
        if self._is_closed:
            raise ConnectionError("the client was closed")
        pool: Any = self.connection_pool
        connection = pool.make_connection()
        await connection.connect()
        connection.socket_timeout = None  # an idle connection may be silent; each reply has its own timeout
        self._shared = _SharedConnection(connection, self._reply_timeout)
        return self._shared

    def _on_opened(self, opening: "asyncio.Task[_SharedConnection]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # marks it as seen: the callers that waited have raised it
