"""The events of one task for a call that is held open, with heartbeats in silence and the time to hand the call off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from enum import Enum

from taskmill.engine.events import Event, LogMessage
from taskmill.server.streams.timed_reader import TimedReader
from taskmill.store.pubsub.event_tail import EventTails

__all__ = ["HEARTBEAT", "Due", "paced_events"]

HEARTBEAT = 15.0
"""Seconds of silence after which a held call sends a heartbeat."""


class Due(Enum):
    """What is due although nothing has happened."""

    HEARTBEAT = "heartbeat"
    """The task has been silent for a while."""
    HAND_OFF = "hand-off"
    """The call has been held as long as it may be; nothing follows."""


@asynccontextmanager
async def paced_events(
    tails: EventTails, task_id: str, *, after: int = 0, handoff_after: float | None = None
) -> AsyncIterator[AsyncGenerator[Event | LogMessage | Due, None]]:
    """The events of a task above number `after` until its end, and between them what it logs and what is due.

    `handoff_after`: seconds until the call is handed off, None = never.
    """
    async with (
        tails.follow_with_log(task_id, after=after) as events,
        aclosing(_paced(events, handoff_after)) as paced,
    ):
        yield paced


async def _paced(
    events: AsyncIterator[Event | LogMessage], handoff_after: float | None
) -> AsyncGenerator[Event | LogMessage | Due, None]:
    loop = asyncio.get_running_loop()
    hand_off_at = loop.time() + (float("inf") if handoff_after is None else handoff_after)
    heartbeat_at = loop.time() + HEARTBEAT
    async with TimedReader(events) as reader:
        while True:
            try:
                event = await reader.next(max(0.0, min(heartbeat_at, hand_off_at) - loop.time()))
            except TimeoutError:
                if loop.time() >= hand_off_at:
                    yield Due.HAND_OFF
                    return
                heartbeat_at = loop.time() + HEARTBEAT
                yield Due.HEARTBEAT
                continue
            if event is None:
                return
            if isinstance(event, Event):  # a log message is no sign of progress to a client's call timeout
                heartbeat_at = loop.time() + HEARTBEAT
            yield event
