"""The stream of an open call, made by any replica and from any point on: for a task's call from the task's events, for
another call from its outbox.

An event id is `<call>.<number>`: a cursor into what the stream is made from. `<call>.end` is the response.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import structlog
from mcp_types import INTERNAL_ERROR

from taskmill.engine.errors import TaskNotFound
from taskmill.engine.events import Event, LogMessage
from taskmill.engine.record import Progress, TaskView
from taskmill.engine.status import Move
from taskmill.server.protocol.results import call_response, hand_off_response
from taskmill.server.protocol.status_text import progress_text, status_text
from taskmill.server.streams.client_requests import can_be_asked, request_of
from taskmill.server.streams.log_messages import is_wanted, lowest_level, message_notification
from taskmill.server.streams.paced_events import Due, paced_events
from taskmill.server.streams.progress import RisingProgress, progress_notification
from taskmill.store.sessions.open_calls import CallKind, OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["StreamMessage", "outbox_messages", "task_messages"]

log = structlog.get_logger()
_LOST = "The server process that ran this call was lost. Nothing is known of its outcome; call again if that is safe."
_OUTBOX_CHECK_EVERY = 15
"""Seconds without a message after which an outbox is read again: the process that fills it may have died."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message of a stream."""

    message: dict[str, Any]
    event_id: str | None = None
    """None: it is not kept for resumption, and is lost with the connection."""
    is_last: bool = False


async def task_messages(
    store: TaskStore, session: Session, call: OpenCall, after: int
) -> AsyncGenerator[StreamMessage, None]:
    """The messages of a task's call above event number `after`, ending with the response.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    assert call.task_id is not None
    source = _TaskMessages(store, session, call)
    left = None if call.hand_off_ms is None else max(0.0, (call.hand_off_ms - await store.now_ms()) / 1000)
    async with paced_events(store.tails, call.task_id, after=after, handoff_after=left) as steps:
        async for step in steps:
            messages, is_over = await source.of(step)
            for message in messages:
                yield message
            if is_over:
                return
    yield await source.response()


class _TaskMessages:
    """Makes the messages of one connection to the stream of a task's call."""

    def __init__(self, store: TaskStore, session: Session, call: OpenCall) -> None:
        assert call.task_id is not None
        self._store = store
        self._session = session
        self._call = call
        self._task_id: str = call.task_id
        self._rising = RisingProgress()
        self._lowest = lowest_level(session.version, session.client)

    async def of(self, step: Event | LogMessage | Due) -> tuple[list[StreamMessage], bool]:
        """The messages for a step, and whether the last one is among them."""
        match step:
            case Due.HEARTBEAT:
                return await self._heartbeat(), False
            case Due.HAND_OFF:
                log.info("call.handed_off", task_id=self._task_id)
                return [self._last(hand_off_response(await self._read(), self._session.version))], True
            case LogMessage():
                return self._log(step), False
            case Event(move=Move.PROGRESS):
                return self._progress(step), False
            case Event(move=Move.ASK):
                return await self._questions(step)
            case Event():
                return [], False

    async def response(self) -> StreamMessage:
        """The response to the request, once the task has ended."""
        try:
            view = await self._read()
        except TaskNotFound:
            gone = {"code": INTERNAL_ERROR, "message": "The task has expired, and its result with it."}
            return self._last({"error": gone})
        related_to = self._task_id if self._call.kind is CallKind.RESULT else None
        return self._last(call_response(view, self._session.version, related_to=related_to))

    async def _heartbeat(self) -> list[StreamMessage]:
        view = await self._read()
        return self._notification(view.record.progress, status_text(view), None)

    def _progress(self, event: Event) -> list[StreamMessage]:
        if event.seq <= self._call.since:
            return []
        progress = Progress.of_facts(event.facts)
        return self._notification(progress, progress_text(progress), f"{self._call.id}.{event.seq}")

    def _log(self, message: LogMessage) -> list[StreamMessage]:
        # To a task of 2025 they go on the session's own stream, with all else that is sent of it.
        if self._call.kind is CallKind.RESULT or not is_wanted(message, self._lowest):
            return []
        return [StreamMessage(message_notification(message))]

    def _notification(self, progress: Progress, text: str, event_id: str | None) -> list[StreamMessage]:
        if self._call.token is None:
            return []
        figure = self._rising.next(progress.done)
        return [StreamMessage(progress_notification(self._call.token, figure, progress, text), event_id)]

    async def _questions(self, event: Event) -> tuple[list[StreamMessage], bool]:
        view = await self._read()
        requests: list[StreamMessage] = []
        for key, question in view.questions.items():
            if not can_be_asked(self._session, question):
                if self._call.kind is CallKind.RESULT:
                    continue  # another client of the principal may answer
                return [self._last(hand_off_response(view, self._session.version))], True
            # Sent with an earlier event already: the client has it, or receives it there.
            if await self._store.open_calls.first_shown_at(self._call.id, key, event.seq) != event.seq:
                continue
            message = request_of(self._call, key, question)
            requests.append(StreamMessage(message, f"{self._call.id}.{event.seq}"))
        return requests, False

    async def _read(self) -> TaskView:
        return await self._store.read(self._task_id, self._session.principal)

    def _last(self, outcome: dict[str, Any]) -> StreamMessage:
        response = {"jsonrpc": "2.0", "id": self._call.request_id, **outcome}
        return StreamMessage(response, f"{self._call.id}.end", is_last=True)


async def outbox_messages(store: TaskStore, call: OpenCall, after: int) -> AsyncGenerator[StreamMessage, None]:
    """The messages of a call without a task above number `after`, ending with the response."""
    changed = asyncio.Event()
    async with store.open_calls.subscribe(call.id, lambda _channel, _message: changed.set()):
        while True:
            messages = await store.open_calls.read_messages(call.id, after)
            if messages is None:
                error = {"code": INTERNAL_ERROR, "message": _LOST}
                yield StreamMessage(
                    {"jsonrpc": "2.0", "id": call.request_id, "error": error}, f"{call.id}.end", is_last=True
                )
                return
            for number, message in messages:
                after = number
                if not message:
                    continue  # the outbox's beginning
                is_last = "method" not in message
                yield StreamMessage(message, f"{call.id}.{number}", is_last=is_last)
                if is_last:
                    return
            await _wait(changed)


async def _wait(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_OUTBOX_CHECK_EVERY):
            await changed.wait()
    except TimeoutError:
        return
    changed.clear()
