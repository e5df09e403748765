"""Whether an attempt runs or only waits for answers, and what follows: its slot, its run limit, its parking.

While it waits it has no slot and its run limit stands still; after `park_after` it leaves memory. Nothing here ends an
attempt: it tells the `ActiveTask` to stop.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from taskmill.workers.attempts.active import ActiveTask, Stop
from taskmill.workers.attempts.slots import Slots

__all__ = ["AttemptLimits"]


class AttemptLimits:
    """Of one attempt that has a slot. All times are seconds, None = no limit."""

    def __init__(
        self,
        task: ActiveTask,
        slots: Slots,
        *,
        run_limit: float | None,
        park_after: float | None,
        time_left: float | None = None,
    ) -> None:
        """`time_left`: until the task must have ended, waits included."""
        self._task = task
        self._slots = slots
        self._has_slot = True
        self._questions = 0
        self._steps = 0
        self._run_left = run_limit
        self._park_after = park_after
        self._active_at = self._running_since = monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        if time_left is not None:
            self._deadline_timer = self._loop.call_later(time_left, task.stop, Stop.DEADLINE)
        self._begin_run()

    @property
    def is_waiting(self) -> bool:
        """True while a question is open and no step is running."""
        return self._questions > 0 and self._steps == 0

    @property
    def has_slot(self) -> bool:
        """True while the attempt has a slot."""
        return self._has_slot

    @property
    def has_question(self) -> bool:
        """True while a question is open."""
        return self._questions > 0

    def note_activity(self) -> None:
        """The tool has done something; any thread. It is not parked for `park_after` from now."""
        self._active_at = monotonic()

    def park_without_delay(self) -> None:
        """The worker is leaving: park the attempt now, or as soon as it waits."""
        self._park_after = 0.0
        if self.is_waiting:
            self._task.stop(Stop.PARK)

    @contextmanager
    def question_open(self) -> Iterator[None]:
        """A question is open inside. Call `resume` after it."""
        with self._counted(1, 0):
            yield

    @contextmanager
    def step_running(self) -> Iterator[None]:
        """A step is running inside: even while a question is open, the attempt is not parked. Call `resume` first."""
        with self._counted(0, 1):
            yield

    async def resume(self) -> None:
        """Return once the attempt has a slot again. While a question is open it needs none."""
        if self._has_slot or self.is_waiting:
            return
        await self._slots.take_again()
        if self._has_slot or self.is_waiting:
            self._slots.release()
        else:
            self._has_slot = True

    def close(self) -> None:
        """The attempt has ended: its slot is free, its timers are stopped."""
        self._stop_timer()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._release_slot()

    @contextmanager
    def _counted(self, questions: int, steps: int) -> Iterator[None]:
        self._count(questions, steps)
        try:
            yield
        finally:
            self._count(-questions, -steps)

    def _count(self, questions: int, steps: int) -> None:
        was_waiting = self.is_waiting
        self._questions += questions
        self._steps += steps
        if self.is_waiting == was_waiting:
            return
        self._stop_timer()
        if self.is_waiting:
            self._begin_wait()
        else:
            self._begin_run()

    def _begin_wait(self) -> None:
        if self._run_left is not None:
            self._run_left -= monotonic() - self._running_since
        self._active_at = monotonic()
        self._release_slot()
        if self._park_after is not None:
            self._timer = self._loop.call_later(self._park_after, self._park)

    def _begin_run(self) -> None:
        self._running_since = monotonic()
        if self._run_left is not None:
            self._timer = self._loop.call_later(max(0.0, self._run_left), self._task.stop, Stop.TIMEOUT)

    def _park(self) -> None:
        assert self._park_after is not None, "the timer is set only for an attempt that may be parked"
        left = self._active_at + self._park_after - monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._park)
        else:
            self._task.stop(Stop.PARK)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._slots.release()
