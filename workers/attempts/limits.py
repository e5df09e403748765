"""How an attempt stands: it works, or it only waits for answers. Its place, its time and its parking follow from that.

While it waits it holds no place and its run limit stands still; after `park_after` it leaves memory. Nothing here ends
an attempt: it tells `held.py`'s task to stop.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from taskmill.workers.attempts.active import ActiveTask, Stop
from taskmill.workers.attempts.slots import Slots

__all__ = ["AttemptLimits"]


class AttemptLimits:
    """Of one attempt that has a place. All times are seconds, None = for ever."""

    def __init__(
        self,
        task: ActiveTask,
        slots: Slots,
        *,
        run_limit: float | None,
        park_after: float | None,
        time_left: float | None = None,
    ) -> None:
        """`time_left`: until the task must have ended, waits and all."""
        self._task = task
        self._slots = slots
        self._seated = True
        self._questions = 0
        self._steps = 0
        self._run_left = run_limit
        self._park_after = park_after
        self._sign = self._since = monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        if time_left is not None:
            self._alarm = self._loop.call_later(time_left, task.stop, Stop.DEADLINE)
        self._work_on()

    @property
    def waits(self) -> bool:
        """True while a question is open and no step is under way."""
        return self._questions > 0 and self._steps == 0

    @property
    def asks(self) -> bool:
        """True while a question is open."""
        return self._questions > 0

    def sign(self) -> None:
        """The tool gave a sign of life; any thread. It is not parked for `park_after` from now."""
        self._sign = monotonic()

    def leave_memory(self) -> None:
        """The worker is leaving: park the attempt at once, now or as soon as it waits."""
        self._park_after = 0.0
        if self.waits:
            self._task.stop(Stop.PARK)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A question is open inside. Call `go_on` behind it."""
        with self._counted(1, 0):
            yield

    @contextmanager
    def working(self) -> Iterator[None]:
        """A step is under way inside: even beside an open question, the attempt is not parked. Call `go_on` first."""
        with self._counted(0, 1):
            yield

    async def go_on(self) -> None:
        """Return once the attempt has a place again. Beside an open question it needs none."""
        if self._seated or self.waits:
            return
        await self._slots.take_back()
        if self._seated or self.waits:
            self._slots.give()
        else:
            self._seated = True

    def end(self) -> None:
        """The attempt is over: its place is free, its timers are stopped."""
        self._stop_timer()
        if self._alarm is not None:
            self._alarm.cancel()
        self._give_place()

    @contextmanager
    def _counted(self, questions: int, steps: int) -> Iterator[None]:
        self._count(questions, steps)
        try:
            yield
        finally:
            self._count(-questions, -steps)

    def _count(self, questions: int, steps: int) -> None:
        waited = self.waits
        self._questions += questions
        self._steps += steps
        if self.waits == waited:
            return
        self._stop_timer()
        if self.waits:
            self._rest()
        else:
            self._work_on()

    def _rest(self) -> None:
        if self._run_left is not None:
            self._run_left -= monotonic() - self._since
        self._sign = monotonic()
        self._give_place()
        if self._park_after is not None:
            self._timer = self._loop.call_later(self._park_after, self._park)

    def _work_on(self) -> None:
        self._since = monotonic()
        if self._run_left is not None:
            self._timer = self._loop.call_later(max(0.0, self._run_left), self._task.stop, Stop.TIMEOUT)

    def _park(self) -> None:
        assert self._park_after is not None, "the timer is set only for an attempt that may be parked"
        left = self._sign + self._park_after - monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._park)
        else:
            self._task.stop(Stop.PARK)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_place(self) -> None:
        if self._seated:
            self._seated = False
            self._slots.give()
