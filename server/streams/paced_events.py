"""Following one task on behalf of a call that is held open: its events, a beat in silence, the time to hand off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from enum import Enum

from taskmill.engine.events import Event
from taskmill.store.pubsub.event_tail import EventTails

__all__ = ["BEAT", "Meter", "Pause", "follow"]

BEAT = 15.0
"""Seconds of silence after which a held call says that it is alive."""
_STEP = 1e-6


class Pause(Enum):
    """What there is to say although nothing has happened."""

    BEAT = "beat"
    """The task has been silent for a while."""
    DUE = "due"
    """The call has been held as long as it may be; nothing follows."""


@asynccontextmanager
async def follow(
    tails: EventTails, task_id: str, *, after: int = 0, limit: float | None = None
) -> AsyncIterator[AsyncGenerator[Event | Pause, None]]:
    """The events of a task above number `after` until its end, with pauses between them.

    `limit`: seconds until the call is due, None = never.
    """
    async with tails.follow(task_id, after=after) as events, aclosing(_paced(events, BEAT, limit)) as paced:
        yield paced


async def _paced(events: AsyncIterator[Event], beat: float, limit: float | None) -> AsyncGenerator[Event | Pause, None]:
    loop = asyncio.get_running_loop()
    due = loop.time() + (float("inf") if limit is None else limit)
    coming: asyncio.Future[Event | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(events))
            patience = min(beat, max(0.0, due - loop.time()))
            await asyncio.wait([coming], timeout=patience)
            if coming.done():
                event, coming = coming.result(), None
                if event is None:
                    return
                yield event
            elif loop.time() >= due:
                yield Pause.DUE
                return
            else:
                yield Pause.BEAT
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


class Meter:
    """Progress figures of one call, which must rise with every notification (progress, "Progress Flow").

    A beat, or a tool that says something new without having got further, rises by next to nothing.
    """

    def __init__(self) -> None:
        self._last: float | None = None

    def next(self, done: float | None) -> float:
        """The figure to send for a tool that is `done` so far, None = it has not said."""
        value = done if done is not None else (self._last or 0.0)
        if self._last is not None and value <= self._last:
            value = self._last + _STEP * max(1.0, abs(self._last))
        self._last = value
        return value
