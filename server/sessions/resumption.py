"""The rest of a call's stream that was cut off, for a client that reconnects with GET and `Last-Event-ID`.

Source: transports 2025-11-25, "Resumability and Redelivery".
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from taskmill.server.sessions.dispatch import RETRY_MS
from taskmill.server.streams import sse
from taskmill.server.streams.call_stream import StreamMessage, outbox_messages, task_messages
from taskmill.server.streams.timed_reader import TimedReader
from taskmill.store.sessions.open_calls import OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["StreamEnded", "resume_stream"]

_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,15}|end)")
_QUIET = 0.01
"""Seconds without a further message after which a resumed stream is closed in order."""


class StreamEnded(Exception):
    """The cursor is at the end of an answered call: a client that counts no error as a response resumes there."""


async def resume_stream(store: TaskStore, session: Session, cursor: str) -> AsyncGenerator[bytes, None] | None:
    """The rest of a call's stream after `cursor`; None when the cursor is not of this session.

    It waits for new messages, sends them, and is closed in order, so that the client reconnects. When a resumed stream
    breaks off, clients lose their cursor - the official Python ones do - and would receive again what they have.

    Raises:
        StreamEnded: the client has received everything.
    """
    found = _CURSOR.fullmatch(cursor)
    call = await store.open_calls.find(session.id, found[1]) if found else None
    if found is None or call is None:
        return None
    if found[2] == "end" or (call.task_id is None and await _is_response(store, call, int(found[2]))):
        raise StreamEnded
    return _rest(store, session, call, int(found[2]))


async def _is_response(store: TaskStore, call: OpenCall, number: int) -> bool:
    """Whether message `number` of an outbox is the response."""
    messages = await store.open_calls.read_messages(call.id, max(0, number - 1)) or []
    return any(message and "method" not in message for at, message in messages if at == number)


async def _rest(store: TaskStore, session: Session, call: OpenCall, after: int) -> AsyncGenerator[bytes, None]:
    yield sse.priming(f"{call.id}.{after}", RETRY_MS)
    await store.open_calls.touch(call)
    if call.digest and call.task_id:
        await store.abandoned_calls.forget(session.principal, call.digest, call.task_id)
    messages = (
        outbox_messages(store, call, after) if call.task_id is None else task_messages(store, session, call, after)
    )
    async with aclosing(messages), aclosing(_until_quiet(messages)) as batch:
        async for one in batch:
            yield sse.event(one.message, one.event_id)
            if one.is_last:
                await store.open_calls.end(call)


async def _until_quiet(messages: AsyncGenerator[StreamMessage, None]) -> AsyncGenerator[StreamMessage, None]:
    """The messages that come together; the wait for the first one that has an event id is not limited."""
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
