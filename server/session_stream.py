"""The streams a client opens with GET: the session's own, and the rest of a call's that was cut.

Source: transports 2025-11-25, "Listening for Messages from the Server" and "Resumability and Redelivery".
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from windlass.engine.errors import StoreUnavailable, TaskNotFound
from windlass.server import sse
from windlass.server.call_stream import outbox_messages, task_messages
from windlass.server.exchange import RETRY_MS
from windlass.server.notices2025 import notices
from windlass.store.sessions import Session
from windlass.store.streams import OpenCall
from windlass.store.tasks import TaskStore

__all__ = ["SessionStream", "resumed"]

_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,15})")
_KEEP_EVERY = 300.0
_BACKLOG = 1024


async def resumed(store: TaskStore, session: Session, cursor: str) -> AsyncGenerator[bytes, None] | None:
    """The rest of a call's stream behind `cursor`; None when the cursor is none of this session's."""
    found = _CURSOR.fullmatch(cursor)
    call = await store.streams.find(session.id, found[1]) if found else None
    if found is None or call is None:
        return None
    return _rest(store, session, call, int(found[2]))


async def _rest(store: TaskStore, session: Session, call: OpenCall, after: int) -> AsyncGenerator[bytes, None]:
    yield sse.priming(f"{call.id}.{after}", RETRY_MS)
    await store.streams.touch(call)
    messages = (
        outbox_messages(store, call, after) if call.task_id is None else task_messages(store, session, call, after)
    )
    async with aclosing(messages):
        async for said in messages:
            yield sse.event(said.message, said.event_id)
            if said.is_last:
                await store.streams.end(call)


class SessionStream:
    """The session's own stream: what belongs to no request, and what is new of the session's tasks."""

    def __init__(self, store: TaskStore, session: Session) -> None:
        self._store = store
        self._session = session
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        self._followers: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Frames until the session ends, another stream takes the place of this one, or its reader is too slow."""
        keeping = asyncio.create_task(self._keep())
        try:
            async with self._store.sessions.holding_stream(self._session.id, self._hear):
                yield sse.PING  # the client sees at once that it is connected
                for task_id, token in (await self._store.sessions.followed(self._session.id)).items():
                    self._follow(task_id, token, is_new=False)
                while (frame := await self._frames.get()) is not None:
                    yield frame
        finally:
            tasks = [keeping, *self._followers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _hear(self, _channel: str, message: bytes | None) -> None:
        if message is None:
            return
        told: dict[str, Any] = json.loads(message)
        if "message" in told:
            self._put(sse.event(told["message"]))
        elif "follow" in told:
            self._follow(told["follow"], told["token"], is_new=True)
        else:
            self._put(None)  # closed, or replaced by a younger stream

    def _put(self, frame: bytes | None) -> None:
        if self._frames.full():
            self._frames.get_nowait()
            frame = None  # the reader does not keep up: it comes back
        self._frames.put_nowait(frame)

    def _follow(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        if task_id not in self._followers:
            telling = self._tell(task_id, token, is_new=is_new)
            self._followers[task_id] = asyncio.create_task(telling, name="windlass.notices")

    async def _tell(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        """Tell everything of a new task; of an older one how it is now, and what comes."""
        try:
            view = await self._store.look(task_id, self._session.principal)
            after = 0 if is_new else max(0, view.record.seq - 1)
            async with aclosing(notices(self._store, self._session.principal, task_id, token, after=after)) as messages:
                async for message in messages:
                    self._put(sse.event(message))
            await self._store.sessions.unfollow(self._session.id, task_id)
        except TaskNotFound:
            await self._store.sessions.unfollow(self._session.id, task_id)
        except StoreUnavailable:
            self._put(None)

    async def _keep(self) -> None:
        """An open stream is use of the session."""
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            try:
                if await self._store.sessions.find(self._session.id, self._session.principal) is None:
                    self._put(None)
            except StoreUnavailable:
                continue
