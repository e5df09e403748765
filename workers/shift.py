"""The loop of a worker: claim what is due, run it, settle what ended. Batches both, and drains.

One *turn* is one round trip to Redis: the endings of finished attempts, and a claim for the free slots behind them.
"""

import asyncio
from itertools import count
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from windlass.engine.errors import OperatorError
from windlass.store.bell import Bell
from windlass.store.claims import Claims
from windlass.workers.attempt import Attempt
from windlass.workers.ending import Ending
from windlass.workers.held import Stop
from windlass.workers.station import Station

__all__ = ["Shift"]

log = structlog.get_logger()
_NOTHING = Claims([], None)


class Shift:
    """Works at a station until it is drained, or idle for `idle_exit` seconds (None = for ever)."""

    def __init__(self, station: Station, bell: Bell, *, idle_exit: float | None = None) -> None:
        self._station = station
        self._bell = bell
        self._idle_exit = idle_exit
        self._slots = station.slots
        self._tasks: dict[asyncio.Task[None], Attempt] = {}
        self._endings: list[Ending] = []
        self._stir = asyncio.Event()
        self._room = asyncio.Event()
        self._turns = count(1)
        self._is_asked = False
        self._draining = False
        self._grace_over = False
        self._failed = False
        self._loop = asyncio.get_running_loop()
        station.stir = self._stir.set
        self._ear: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Attempts under way."""
        return len(self._tasks)

    def drain(self) -> None:
        """Claim nothing more; running tasks get the grace, then they are given back. Again: give them back now.

        Tasks that only wait for answers are parked at once.
        """
        grace = 0.0 if self._is_asked else self._station.settings.grace
        log.info("worker.draining", running=self.running, grace=grace)
        self._is_asked = True
        self._close()
        self._loop.call_later(grace, self._end_grace)

    def retire(self) -> None:
        """Claim nothing more; running tasks take the time they need. For a worker that others take over from."""
        log.info("worker.retiring", running=self.running)
        self._close()

    def _close(self) -> None:
        self._draining = True
        self._stir.set()
        self._station.leave()
        for attempt in self._tasks.values():
            attempt.leave_memory()
        if self._ear is not None:
            # It would take the token of what is given back from a worker that stays.
            self._ear.cancel()

    async def work(self) -> None:
        """Work until drained or idle for too long. Outages of the store are waited out."""
        self._ear = ear = asyncio.create_task(self._listen(), name="windlass.bell")
        idle_since = self._loop.time()
        try:
            while not (self._draining and not self._tasks and not self._endings):
                self._stir.clear()
                busy = bool(self._tasks or self._endings)
                await self._turn()
                self._set_room()
                if busy or self._tasks or self._endings:
                    idle_since = self._loop.time()
                elif self._idle_exit is not None and self._loop.time() - idle_since >= self._idle_exit:
                    return
                if self._draining and not self._tasks and not self._endings:
                    return
                await self._stir.wait()
        finally:
            ear.cancel()
            await asyncio.wait([ear])

    async def _turn(self) -> None:
        endings, self._endings = self._endings, []
        free = 0 if self._draining else self._slots.free
        if not endings and not free:
            return
        self._slots.take(free)  # nobody who goes on may have them meanwhile
        claims = await self._exchange(endings, free)
        for claimed in claims.tasks:
            self._start(self._station.attempt(claimed))
        self._slots.put_back(free - len(claims.tasks))
        if claims.wait_ms is None:
            return
        if claims.wait_ms > 0:
            if claims.wait_ms < self._station.settings.poll * 1000:
                self._loop.call_later(claims.wait_ms / 1000, self._stir.set)
        elif self._slots.free:
            self._stir.set()

    async def _exchange(self, endings: list[Ending], free: int) -> Claims:
        station = self._station
        calls = [station.calls_of(ending) for ending in endings]
        said = [call for group in calls for call in group]
        claim = station.store.claim_call(station.settings.queue, free, turn=str(next(self._turns))) if free else None
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(OperatorError),
            wait=wait_exponential_jitter(multiplier=0.05, max=2.0),
            stop=self._gives_up,
            retry_error_callback=lambda _state: None,
        )
        reply: tuple[list[Any], Claims | None] | None = await retrying(self._say, said, claim)
        if reply is None:
            log.error("worker.left_unsettled", endings=len(endings))
            return _NOTHING
        replies, claims = reply
        at = -1
        for ending, group in zip(endings, calls, strict=True):
            at += len(group)
            station.note(ending, replies[at])
        return claims or _NOTHING

    async def _say(self, said: list[Any], claim: Any) -> tuple[list[Any], Claims | None]:
        """One round trip. After an outage the leases come first, so that nobody claims what is running here."""
        held = self._station.held.fences() if self._failed else []
        renewal = [self._station.store.renew_call(held)] if held else []
        self._failed = True
        replies, claims = await self._station.store.turn([*renewal, *said], claim)
        self._failed = False
        return replies[len(renewal) :], claims

    def _gives_up(self, state: RetryCallState) -> bool:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("store.turn_failed", error=str(state.outcome.exception()))
        return self._grace_over and state.attempt_number >= 3

    def _start(self, attempt: Attempt) -> None:
        task = asyncio.create_task(self._run(attempt))
        self._tasks[task] = attempt
        if self._draining:
            attempt.leave_memory()
        if self._grace_over:
            attempt.stop(Stop.DRAIN)

    async def _run(self, attempt: Attempt) -> None:
        task = asyncio.current_task()
        try:
            ending = await attempt.run()
            if ending is not None:
                self._endings.append(ending)
        finally:
            if task is not None:
                self._tasks.pop(task, None)
            self._stir.set()

    async def _listen(self) -> None:
        while True:
            await self._room.wait()
            try:
                rung = await self._bell.wait(self._station.settings.poll)
                if rung and not self._room.is_set():
                    await self._bell.pass_on()
            except OperatorError:
                await asyncio.sleep(self._station.settings.poll)
            self._stir.set()

    def _set_room(self) -> None:
        if self._slots.free and not self._draining:
            self._room.set()
        else:
            self._room.clear()

    def _end_grace(self) -> None:
        self._grace_over = True
        self._station.stop_all(Stop.DRAIN)
        self._stir.set()
