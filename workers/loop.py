"""The loop of a worker: claim what is due, run it, settle what ended. Batches both, and drains.

One *turn* is one round trip to Redis: the endings of finished attempts, and a claim for the free slots behind them. A
turn is for half of the slots at most, so that Redis can work on one while the tools of the other run.
"""

import asyncio
from collections.abc import Awaitable
from functools import partial

import structlog

from taskmill.engine.errors import OperatorError
from taskmill.store.claims.claims import Claims
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.workers.attempts.active import Stop
from taskmill.workers.attempts.attempt import Attempt
from taskmill.workers.attempts.endings import Ending
from taskmill.workers.claimer import Claimer
from taskmill.workers.runtime import WorkerRuntime

__all__ = ["WorkerLoop"]

log = structlog.get_logger()


class WorkerLoop:
    """Works at a station until it is drained, or idle for `idle_exit` seconds (None = for ever)."""

    def __init__(self, station: WorkerRuntime, bell: QueueWakeup, *, idle_exit: float | None = None) -> None:
        self._station = station
        self._bell = bell
        self._idle_exit = idle_exit
        self._slots = station.slots
        self._teller = Claimer(station, gives_up=lambda failures: self._grace_over and failures >= 3)
        self._attempts: set[Attempt] = set()
        self._endings: list[Ending] = []
        self._turns: set[asyncio.Task[None]] = set()
        self._claims = 0
        """Under way."""
        self._called = True
        """Something may be due: the bell rang, a time has come, or nobody was listening."""
        self._plenty = False
        """The last claim left something that is due."""
        self._stir = asyncio.Event()
        self._room = asyncio.Event()
        self._is_asked = False
        self._draining = False
        self._grace_over = False
        self._loop = asyncio.get_running_loop()
        station.stir = self._stir.set
        self._ear: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

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
        for attempt in list(self._attempts):
            attempt.leave_memory()
        if self._ear is not None:
            # It would take the token of what is given back from a worker that stays.
            self._ear.cancel()

    async def work(self) -> None:
        """Work until drained or idle for too long. Outages of the store are waited out."""
        self._ear = asyncio.create_task(self._listen(), name="taskmill.bell")
        idle_since = self._loop.time()
        try:
            while self._is_busy() or not self._draining:
                self._stir.clear()
                if self._is_busy():
                    idle_since = self._loop.time()
                elif self._idle_exit is not None and self._loop.time() - idle_since >= self._idle_exit:
                    return
                self._take_turns()
                self._set_room()
                await self._stir.wait()
                self._end_turns()
        finally:
            await self._leave()

    def _is_busy(self) -> bool:
        return bool(self._attempts or self._endings or self._turns)

    def _take_turns(self) -> None:
        """Begin turns while there is something to settle or to claim."""
        share = (self._station.settings.concurrency + 1) // 2
        # A claim that is still under way must not take what a leaving worker gives back.
        while self._teller.is_free and not (self._draining and self._turns):
            endings, room = self._endings[:share], self._room_to_claim(share)
            if not endings and (not room or (self._claims and not self._plenty)):
                return
            del self._endings[:share]
            if room:
                self._called = False
                self._claims += 1
                self._slots.take(room)  # nobody who goes on may have them meanwhile
            turn = asyncio.create_task(self._turn(self._teller.turn(endings, room), room), name="taskmill.turn")
            self._turns.add(turn)
            turn.add_done_callback(lambda _: self._stir.set())

    def _room_to_claim(self, share: int) -> int:
        if self._draining or not (self._called or self._plenty):
            return 0
        return min(share, self._slots.free)

    async def _turn(self, telling: Awaitable[Claims], room: int) -> None:
        used = 0
        try:
            claims = await telling
            used = len(claims.tasks)
        finally:
            self._claims -= bool(room)
            self._slots.put_back(room - used)
        for claimed in claims.tasks:
            self._start(self._station.attempt(claimed))
        if room:
            self._come_again(claims)

    def _come_again(self, claims: Claims) -> None:
        self._plenty = claims.wait_ms == 0
        if claims.wait_ms and claims.wait_ms < self._station.settings.poll * 1000:
            self._loop.call_later(claims.wait_ms / 1000, self._call)

    def _call(self) -> None:
        self._called = True
        self._take_turns()
        self._set_room()

    def _start(self, attempt: Attempt) -> None:
        self._attempts.add(attempt)
        attempt.begin(partial(self._end, attempt))
        if self._draining:
            attempt.leave_memory()
        if self._grace_over:
            attempt.stop(Stop.DRAIN)

    def _end(self, attempt: Attempt, ending: Ending | None) -> None:
        self._attempts.discard(attempt)
        if ending is not None:
            self._endings.append(ending)
        self._stir.set()

    def _end_turns(self) -> None:
        for turn in [turn for turn in self._turns if turn.done()]:
            self._turns.discard(turn)
            turn.result()

    async def _listen(self) -> None:
        while True:
            await self._room.wait()
            try:
                rung = await self._bell.wait(self._station.settings.poll)
                if rung and not self._room.is_set():
                    await self._bell.pass_on()
            except OperatorError:
                await asyncio.sleep(self._station.settings.poll)
            self._call()

    def _set_room(self) -> None:
        """Nobody listens to the bell while there is no room, or a claim is under way, which tells what it finds."""
        if self._slots.free and not self._draining and not self._claims:
            self._room.set()
        else:
            self._room.clear()
            self._called = self._called or not self._claims

    def _end_grace(self) -> None:
        self._grace_over = True
        self._station.stop_all(Stop.DRAIN)
        self._stir.set()

    async def _leave(self) -> None:
        self._draining = True
        tasks = [task for task in (self._ear, *self._turns) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
