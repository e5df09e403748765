"""The session's own stream, which a client opens with GET.

Source: transports 2025-11-25, "Listening for Messages from the Server".
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mcp.shared.subscriptions import ServerEvent

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.engine.record import TaskView
from taskmill.server.protocol.change_bus import ChangeBus, list_change_notification
from taskmill.server.sessions.dispatch import new_call_id
from taskmill.server.streams import sse
from taskmill.server.streams.client_requests import can_be_asked, request_of
from taskmill.server.streams.log_messages import lowest_level
from taskmill.server.streams.notifications_2025 import task_notifications
from taskmill.store.sessions.open_calls import CallKind, OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["SessionStream"]

_RENEW_EVERY = 300.0
_POLLS = 2
"""Polls after which a client has seen that its input is required..."""
_POLL_MARGIN = 1.0
"""...and seconds that it then takes to call `tasks/result`, if it does so at all."""


class SessionStream:
    """The session's own stream: messages that belong to no request, and notifications of the session's tasks."""

    def __init__(self, store: TaskStore, session: Session, changes: ChangeBus) -> None:
        """`changes`: of the server's lists."""
        self._store = store
        self._changes = changes
        self._session = session
        self._id = new_call_id()
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(sse.BACKLOG)
        self._reading: set[asyncio.Task[None]] = set()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: set[tuple[str, str]] = set()

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Frames until the session ends, a newer stream replaces this one, or the client reads too slowly."""
        renewing = asyncio.create_task(self._renew_session())
        unsubscribe = self._changes.subscribe(self._put_list_change)
        try:
            await self._store.sessions.take_over_stream(self._session.id, self._id)
            async with self._store.sessions.subscribe_pushes(self._session.id, self._receive):
                yield sse.PING  # the client sees at once that it is connected
                while (frame := await self._frames.get()) is not None:
                    yield frame
        finally:
            unsubscribe()
            tasks = [renewing, *self._reading, *self._following.values(), *self._asking.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _put_list_change(self, event: ServerEvent) -> None:
        if (message := list_change_notification(event)) is not None:
            self._put(sse.event(message))

    def _receive(self, _channel: str, message: bytes | None) -> None:
        pushed = {} if message is None else self._store.sessions.open_push(self._session.id, message)
        if message is not None and not pushed:
            return  # refused
        if "message" in pushed:
            self._put(sse.event(pushed["message"]))
        elif "follow" in pushed:
            self._follow(pushed["follow"], pushed["token"], is_new=True)
        elif message is None or "holder" in pushed:
            reading = asyncio.create_task(self._read_state(), name="taskmill.reading")
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
        else:
            self._put(None)  # closed

    async def _read_state(self) -> None:
        """Read what was pushed before the subscription: which stream is the newest, and which tasks are followed."""
        try:
            holder, tasks = await self._store.sessions.read_stream(self._session.id)
        except StoreUnavailable:
            self._put(None)
            return
        if holder != self._id:
            self._put(None)
        for task_id, token in tasks.items():
            self._follow(task_id, token, is_new=False)

    def _put(self, frame: bytes | None) -> None:
        """Send a frame; None = end the stream."""
        if self._frames.full():
            self._frames.get_nowait()
            frame = None  # the client reads too slowly: it reconnects
        self._frames.put_nowait(frame)

    def _follow(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        if task_id not in self._following:
            notifying = self._notify(task_id, token, is_new=is_new)
            self._following[task_id] = asyncio.create_task(notifying, name="taskmill.notifications")

    async def _notify(self, task_id: str, token: str | int | None, *, is_new: bool) -> None:
        """Send every change of a new task; of an older one its present state, and what follows."""
        try:
            view = await self._store.read(task_id, self._session.principal)
            after = 0 if is_new else max(0, view.record.seq - 1)
            lowest = lowest_level(self._session.version, self._session.client)
            messages = task_notifications(
                self._store, self._session.principal, task_id, token, after=after, lowest=lowest
            )
            async with aclosing(messages):
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
            delay = _POLLS * view.record.poll_ms / 1000 + _POLL_MARGIN
            self._asking[task_id] = asyncio.create_task(self._ask(task_id, delay), name="taskmill.asking")

    async def _ask(self, task_id: str, delay: float) -> None:
        """Ask the task's questions here if the client does not call `tasks/result`: some clients only poll."""
        await asyncio.sleep(delay)
        try:
            view = await self._store.read(task_id, self._session.principal)
            if await self._store.open_calls.is_awaited(self._session.id, task_id):
                return
            call = OpenCall(new_call_id(), self._session.id, "", task_id, kind=CallKind.RESULT)
            await self._store.open_calls.keep(call)
        except (TaskNotFound, StoreUnavailable):
            return  # the next stream of the session asks again
        for key, question in view.questions.items():
            if can_be_asked(self._session, question) and (task_id, key) not in self._asked:
                self._asked.add((task_id, key))
                self._put(sse.event(request_of(call, key, question)))

    async def _renew_session(self) -> None:
        """Renew the session's idle time while the stream is open: an open stream is a use of the session."""
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            try:
                if await self._store.sessions.find(self._session.id, self._session.principal) is None:
                    self._put(None)
            except StoreUnavailable:
                continue
