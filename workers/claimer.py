"""Says what ended and claims new work, in one round trip to Redis, and waits out its outages.

When to speak, and of how much, is `shift.py`'s.
"""

import asyncio
from collections.abc import Callable, Coroutine
from random import uniform
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from taskmill.engine.errors import OperatorError
from taskmill.store.claims.claims import Claims
from taskmill.store.scripts import Call
from taskmill.workers.attempts.endings import Ending
from taskmill.workers.runtime import WorkerRuntime

__all__ = ["NOTHING", "Claimer"]

log = structlog.get_logger()
NOTHING = Claims([], None)
"""No work, and none in sight."""
_TRACKS = 2

Reply = tuple[list[Any], Claims | None]


class Claimer:
    """Speaks for a station on a few tracks, each of which carries one turn at a time."""

    def __init__(self, station: WorkerRuntime, *, gives_up: Callable[[int], bool]) -> None:
        """`gives_up`: whether to leave endings untold after so many failures; the leases will lapse."""
        self._station = station
        self._gives_up = gives_up
        self._failed = False
        self._turns = 0
        self._tracks = list(range(_TRACKS))

    @property
    def is_free(self) -> bool:
        """Whether another turn can begin."""
        return bool(self._tracks)

    def turn(self, endings: list[Ending], room: int) -> Coroutine[Any, Any, Claims]:
        """Take a track now, and on it settle endings and claim up to `room` tasks. Takes as long as Redis is out."""
        return self._on_track(self._tracks.pop(), endings, room)

    async def _on_track(self, track: int, endings: list[Ending], room: int) -> Claims:
        try:
            return await self._exchange(track, endings, room)
        finally:
            self._tracks.append(track)

    async def _exchange(self, track: int, endings: list[Ending], room: int) -> Claims:
        station = self._station
        calls = [station.calls_of(ending) for ending in endings]
        said = [call for group in calls for call in group]
        self._turns += 1
        claim = (
            station.store.claim_call(station.settings.queue, room, batch_id=str(self._turns), track=track)
            if room
            else None
        )
        try:
            reply: Reply | None = await self._say(said, claim)
        except OperatorError as exc:
            log.warning("store.turn_failed", error=str(exc))
            reply = await self._say_again(said, claim)
        if reply is None:
            log.error("worker.left_unsettled", endings=len(endings))
            return NOTHING
        replies, claims = reply
        at = -1
        for ending, group in zip(endings, calls, strict=True):
            at += len(group)
            station.note(ending, replies[at])
        return claims or NOTHING

    async def _say(self, said: list[Call], claim: Call | None) -> Reply:
        """One round trip. After an outage the leases come first, so that nobody claims what is running here."""
        after_outage = self._failed
        held = self._station.held.fences() if after_outage else []
        renewal = [self._station.store.renew_call(held)] if held else []
        try:
            replies, claims = await self._station.store.run_batch([*renewal, *said], claim)
        except OperatorError:
            self._failed = True
            raise
        if after_outage:
            self._failed = False
        return replies[len(renewal) :], claims

    async def _say_again(self, said: list[Call], claim: Call | None) -> Reply | None:
        """The same until it succeeds: every call is safe to repeat. None = given up."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(OperatorError),
            wait=wait_exponential_jitter(multiplier=0.05, max=2.0),
            stop=self._stops,
            retry_error_callback=lambda _state: None,
        )
        await asyncio.sleep(uniform(0, 0.1))  # a restart of Redis fails everybody at once
        reply: Reply | None = await retrying(self._say, said, claim)
        return reply

    def _stops(self, state: RetryCallState) -> bool:
        return self._gives_up(state.attempt_number + 1)
