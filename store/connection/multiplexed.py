"""One connection to Redis for all commands of a client: many callers write, replies come back in order.

A command costs no connection, no task and no lock of its own, and what is asked in one turn of the loop is one write.
For commands that answer at once; what waits on purpose (subscriptions, BLPOP), and redis-py's pipelines, take the
client's pool.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from taskmill.store.connection.reply_reader import ReplyReader

__all__ = ["MultiplexedRedis"]

T = TypeVar("T")
_PAUSES = (0.02, 0.04)
"""Seconds before a command is repeated whose connection broke."""


class _Reply:
    """What redis-py takes for a connection that a reply can be read from."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def read_response(self) -> Any:
        return self._reply


class _Trunk:
    """An open connection. Once broken it stays so."""

    def __init__(self, connection: Any, timeout: float) -> None:
        """`connection`: redis-py's, connected; `timeout`: seconds a reply may take."""
        self._connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[float, asyncio.Future[Any]]] = deque()
        """When each reply that is still to come is too late, and who wants it."""
        self._unsent: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._is_broken = False
        self._intake = ReplyReader(connection, self._take, self._end)

    def can_send(self) -> bool:
        """Whether commands may be sent; one that leads to a Redis that is no primary any more is given up."""
        if getattr(self._connection, "is_outdated", False) and not self._is_broken:
            self._give_up(ConnectionError("another Redis became the primary"))
        return not self._is_broken

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command; its reply, where an error of Redis is raised.

        At once where nothing else is under way, else with the others of this turn of the loop.
        """
        is_idle, is_first = not self._asked, not self._unsent
        reply = self._note(packed)
        if is_idle:
            self._send()
        elif is_first:
            self._loop.call_soon(self._send)
        return reply

    def ask_many(self, packed: Iterable[bytes]) -> list[asyncio.Future[Any]]:
        """Send commands now, with what was to be sent at the end of this turn; their replies."""
        replies = [self._note(one) for one in packed]
        self._send()
        return replies

    async def close(self) -> None:
        """Break it off."""
        self._give_up(ConnectionError("the client was closed"))
        await self._intake.is_closed.wait()

    def _note(self, packed: bytes) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._unsent.append(packed)
        self._asked.append((self._loop.time() + self._timeout, reply))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)
        return reply

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._is_broken or not unsent:
            return
        try:
            self._connection._writer.write(b"".join(unsent))  # no public way to write without waiting
        except (OSError, RuntimeError) as exc:  # RuntimeError: uvloop's, for a transport that was closed just now
            self._give_up(ConnectionError(f"Error while writing to the socket: {exc}"))

    def _take(self, reply: Any) -> None:
        """Hand a reply out; one that says that this Redis serves nobody breaks the connection."""
        first = reply[0] if isinstance(reply, list) and reply else reply
        if isinstance(first, ConnectionError):
            self._give_up(first)
            return
        _, wanted = self._asked.popleft()
        if wanted.done():
            return  # nobody waits for it any more
        if isinstance(reply, ResponseError):
            wanted.set_exception(reply)
        else:
            wanted.set_result(reply)

    def _look(self) -> None:
        """Give up when the oldest reply is too late."""
        self._watch = None
        if not self._asked:
            return
        late = self._asked[0][0] - self._loop.time()
        if late > 0:
            self._watch = self._loop.call_later(late, self._look)
        else:
            self._give_up(ConnectionError("the connection was given up: Redis did not answer in time"))

    def _give_up(self, error: Exception) -> None:
        self._end(error)
        self._intake.abort()

    def _end(self, error: Exception) -> None:
        """Fail what is still to come: what is too late with a timeout, the rest with `error`."""
        self._is_broken = True
        if self._watch is not None:
            self._watch.cancel()
        self._connection._close()  # no public way to do it without waiting
        now, asked, self._asked = self._loop.time(), self._asked, deque()
        for late_at, wanted in asked:
            if not wanted.done():
                wanted.set_exception(TimeoutError("Redis did not answer in time") if late_at <= now else error)


class MultiplexedRedis(Redis):
    """redis-py's client, whose single commands share one connection. Pipelines and subscriptions take from the pool."""

    _is_closed = False
    _trunk: _Trunk | None = None
    _opening: "asyncio.Task[_Trunk] | None" = None

    def __init__(self, pool: BlockingConnectionPool, patience: float) -> None:
        """`patience`: seconds a reply may take. The pool is closed with this client."""
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._patience = patience

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command and return its reply; errors are redis-py's."""
        packed = self._packed(args)
        reply = await self._tried(lambda trunk: trunk.ask(packed))
        if not options and args[0] not in self.response_callbacks:
            return reply
        return await self.parse_response(_Reply(reply), args[0], **options)  # type: ignore[arg-type]  # reads alike

    async def execute_many(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Execute commands one after the other, in one round trip; their replies as Redis gave them.

        A refusal stands where its reply would. When the connection breaks all are said again.
        """
        packed = [self._packed(command) for command in commands]

        async def ask(trunk: _Trunk) -> list[Any]:
            replies: list[Any] = await asyncio.gather(*trunk.ask_many(packed), return_exceptions=True)
            for reply in replies:
                if isinstance(reply, BaseException) and not isinstance(reply, ResponseError):
                    raise reply
            return replies

        return await self._tried(ask)

    def _packed(self, args: Sequence[Any]) -> Any:
        words = (*args[0].split(), *args[1:])
        try:
            return pack_command(words)
        except UnicodeEncodeError:  # half a surrogate pair in an id that a caller made up
            pool: Any = self.connection_pool
            return pack_command(tuple(map(pool.get_encoder().encode, words)))

    async def _tried(self, ask: Callable[[_Trunk], Awaitable[T]]) -> T:
        """What `ask` gets of the open trunk; of another one when that breaks."""
        for pause in _PAUSES:
            trunk = self._trunk  # while this one waited, others may have opened another
            try:
                if trunk is None or not trunk.can_send():
                    trunk = await self._opened()
                return await ask(trunk)
            except ConnectionError as exc:
                if isinstance(exc, AuthenticationError):
                    raise
                await asyncio.sleep(pause)
        trunk = self._trunk
        return await ask(trunk if trunk is not None and trunk.can_send() else await self._opened())

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close everything, for good."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._trunk is not None:
            await self._trunk.close()
        await super().aclose(close_connection_pool)

    async def _opened(self) -> _Trunk:
        """The open trunk; those who ask while it is being opened wait for the same attempt."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="taskmill.trunk.open")
            self._opening.add_done_callback(self._settle)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Trunk:
        if self._is_closed:
            raise ConnectionError("the client was closed")
        pool: Any = self.connection_pool
        connection = pool.make_connection()
        await connection.connect()
        connection.socket_timeout = None  # only who waits for a reply minds silence
        self._trunk = _Trunk(connection, self._patience)
        return self._trunk

    def _settle(self, opening: "asyncio.Task[_Trunk]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who waited have it
