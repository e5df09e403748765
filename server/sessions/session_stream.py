"""The session's own stream, which a client opens with GET.

Source: transports 2025-11-25, "Listening for Messages from the Server".
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.engine.record import TaskView
from taskmill.server.sessions.exchange import new_call_id
from taskmill.server.streams import sse
from taskmill.server.streams.client_requests import can_be_asked, request_of
from taskmill.server.streams.notifications_2025 import notices
from taskmill.store.sessions.open_calls import CallKind, OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["SessionStream"]

_KEEP_EVERY = 300.0
_POLLS = 2
"""Polls after which a client has seen that its input is required..."""
_MARGIN = 1.0
"""...and seconds that it takes to come for the questions, where it does."""


class SessionStream:
    """The session's own stream: what belongs to no request, and what is new of the session's tasks."""

    def __init__(self, store: TaskStore, session: Session) -> None:
        self._store = store
        self._session = session
        self._me = new_call_id()
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(sse.BACKLOG)
        self._looking: set[asyncio.Task[None]] = set()
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: set[tuple[str, str]] = set()

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Frames until the session ends, another stream takes the place of this one, or its reader is too slow."""
        keeping = asyncio.create_task(self._keep())
        try:
            await self._store.sessions.take_over_stream(self._session.id, self._me)
            async with self._store.sessions.subscribe_pushes(self._session.id, self._hear):
                yield sse.PING  # the client sees at once that it is connected
                while (frame := await self._frames.get()) is not None:
                    yield frame
        finally:
            tasks = [keeping, *self._looking, *self._followers.values(), *self._asking.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _hear(self, _channel: str, message: bytes | None) -> None:
        told: dict[str, Any] = {} if message is None else json.loads(message)
        if "message" in told:
            self._put(sse.event(told["message"]))
        elif "follow" in told:
            self._follow(told["follow"], told["token"], is_new=True)
        elif message is None or "holder" in told:
            looking = asyncio.create_task(self._look(), name="taskmill.looking")
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)
        else:
            self._put(None)  # closed

    async def _look(self) -> None:
        """What was said before it could be heard: whether the stream is a younger one's, and which tasks are new."""
        try:
            holder, tasks = await self._store.sessions.read_stream(self._session.id)
        except StoreUnavailable:
            self._put(None)
            return
        if holder != self._me:
            self._put(None)
        for task_id, token in tasks.items():
            self._follow(task_id, token, is_new=False)

    def _put(self, frame: bytes | None) -> None:
        if self._frames.full():
            self._frames.get_nowait()
            frame = None  # the reader does not keep up: it comes back
        self._frames.put_nowait(frame)

    def _follow(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        if task_id not in self._followers:
            telling = self._tell(task_id, token, is_new=is_new)
            self._followers[task_id] = asyncio.create_task(telling, name="taskmill.notices")

    async def _tell(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        """Tell everything of a new task; of an older one how it is now, and what comes."""
        try:
            view = await self._store.read(task_id, self._session.principal)
            after = 0 if is_new else max(0, view.record.seq - 1)
            async with aclosing(notices(self._store, self._session.principal, task_id, token, after=after)) as messages:
                async for message in messages:
                    self._put(sse.event(message))
                    if message["params"].get("status") == "input_required":
                        self._ask_later(view)
            await self._store.sessions.unfollow(self._session.id, task_id)
        except TaskNotFound:
            await self._store.sessions.unfollow(self._session.id, task_id)
        except StoreUnavailable:
            self._put(None)

    def _ask_later(self, view: TaskView) -> None:
        task_id = view.record.id
        if task_id not in self._asking or self._asking[task_id].done():
            polls = _POLLS * view.record.poll_ms / 1000
            self._asking[task_id] = asyncio.create_task(self._ask(task_id, polls + _MARGIN), name="taskmill.asking")

    async def _ask(self, task_id: str, patience: float) -> None:
        """Put the task's questions here, where the client does not come for its result: some do nothing but poll."""
        await asyncio.sleep(patience)
        try:
            view = await self._store.read(task_id, self._session.principal)
            if await self._store.open_calls.is_awaited(self._session.id, task_id):
                return
            call = OpenCall(new_call_id(), self._session.id, "", task_id, kind=CallKind.RESULT)
            await self._store.open_calls.keep(call)
        except (TaskNotFound, StoreUnavailable):
            return  # whoever opens the next stream is told again
        for key, question in view.questions.items():
            if can_be_asked(self._session, question) and (task_id, key) not in self._asked:
                self._asked.add((task_id, key))
                self._put(sse.event(request_of(call, key, question)))

    async def _keep(self) -> None:
        """An open stream is use of the session."""
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            try:
                if await self._store.sessions.find(self._session.id, self._session.principal) is None:
                    self._put(None)
            except StoreUnavailable:
                continue
