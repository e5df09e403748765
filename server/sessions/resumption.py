"""The rest of a call's stream that was cut, as its client comes back for it with GET and `Last-Event-ID`.

Source: transports 2025-11-25, "Resumability and Redelivery".
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from taskmill.server.sessions.exchange import RETRY_MS
from taskmill.server.streams import sse
from taskmill.server.streams.call_stream import StreamMessage, outbox_messages, task_messages
from taskmill.server.streams.timed_reader import TimedReader
from taskmill.store.sessions.open_calls import OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["NothingLeft", "resumed"]

_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,15}|end)")
_QUIET = 0.01
"""Seconds without a further message after which a resumed stream is closed in order."""


class NothingLeft(Exception):
    """The cursor is at the end of an answered call. A client that counts no error as an answer comes back like that."""


async def resumed(store: TaskStore, session: Session, cursor: str) -> AsyncGenerator[bytes, None] | None:
    """The rest of a call's stream behind `cursor`; None when the cursor is none of this session's.

    It waits for news, tells them, and is closed in order, for the client to come back. A client loses its place when a
    resumed stream breaks off - the official Python ones do - and would be told again what it knows.

    Raises:
        NothingLeft: the client has been told everything.
    """
    found = _CURSOR.fullmatch(cursor)
    call = await store.open_calls.find(session.id, found[1]) if found else None
    if found is None or call is None:
        return None
    if found[2] == "end" or (call.task_id is None and await _is_answered(store, call, int(found[2]))):
        raise NothingLeft
    return _rest(store, session, call, int(found[2]))


async def _is_answered(store: TaskStore, call: OpenCall, number: int) -> bool:
    """Whether message `number` of an outbox is the response."""
    messages = await store.open_calls.read_messages(call.id, max(0, number - 1)) or []
    return any(message and "method" not in message for at, message in messages if at == number)


async def _rest(store: TaskStore, session: Session, call: OpenCall, after: int) -> AsyncGenerator[bytes, None]:
    yield sse.priming(f"{call.id}.{after}", RETRY_MS)
    await store.open_calls.touch(call)
    messages = (
        outbox_messages(store, call, after) if call.task_id is None else task_messages(store, session, call, after)
    )
    async with aclosing(messages), aclosing(_until_quiet(messages)) as batch:
        async for said in batch:
            yield sse.event(said.message, said.event_id)
            if said.is_last:
                await store.open_calls.end(call)


async def _until_quiet(messages: AsyncGenerator[StreamMessage, None]) -> AsyncGenerator[StreamMessage, None]:
    """What comes together; the wait for the first message that counts is not limited."""
    timeout: float | None = None
    async with TimedReader(messages) as reader:
        while True:
            try:
                message = await reader.next(timeout)
            except TimeoutError:
                return
            if message is None:
                return
            if message.event_id is not None:
                timeout = _QUIET
            yield message
