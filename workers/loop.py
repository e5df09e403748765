"""The loop of a worker: claim tasks that are due, run them, settle those that ended. And how a worker drains.

Settling and claiming go to Redis in one *batch*: the endings of finished attempts, and a claim for the slots that are
free. A batch is for half of the slots at most, so that Redis can work on one while the tools of the other run.
"""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial

import structlog

from taskmill.engine.errors import OperatorError
from taskmill.engine.timing.start_time import LONGEST_DELAY
from taskmill.store.claims.claims import Claims, Reserve
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.workers.attempts.active import Stop
from taskmill.workers.attempts.attempt import Attempt
from taskmill.workers.attempts.endings import Ending, Finish, without_room
from taskmill.workers.claimer import Claimer
from taskmill.workers.runtime import WorkerRuntime

__all__ = ["WorkerLoop"]

log = structlog.get_logger()
_REST = 0.02
"""Seconds until a worker with reserved slots only looks again, if no task that may have one wakes it. Other workers get
the other wake-ups meanwhile."""
_ROOM_PAUSE = 1.0
"""Seconds until a result is sent again for which the store had no room."""


class WorkerLoop:
    """Works until it is drained, or idle for `idle_exit` seconds (None = no limit)."""

    def __init__(self, runtime: WorkerRuntime, wakeup: QueueWakeup, *, idle_exit: float | None = None) -> None:
        self._runtime = runtime
        self._wakeup = wakeup
        self._idle_exit = idle_exit
        self._slots = runtime.slots
        self._claimer = Claimer(
            runtime, gives_up=lambda failures: self._grace_over and failures >= 3, on_full=self._send_later
        )
        self._attempts: set[Attempt] = set()
        self._endings: list[Ending] = []
        self._postponed = 0
        """Endings that are sent again later, because the store had no room for them."""
        self._batches: set[asyncio.Task[None]] = set()
        self._claims = 0
        """How many batches with a claim are not answered yet."""
        self._may_be_due = True
        """A task may be due: a wake-up came, a time has come, or the worker did not listen for a while."""
        self._more_due = False
        """The last claim left tasks that are due."""
        self._delayed_until = self._planned_at = 0.0
        """When a task starts later, for which a worker waits that ends when it is idle; and when the last claim is made
        that is planned. On the event loop's clock."""
        self._waits_with_claim = False
        """A claim goes with the wait for work, and its slot is taken."""
        self._reserve = 0
        """Slots that are reserved: none before there was a caller with a name, who is not the only one."""
        self._look_from = 0
        self._rest: asyncio.TimerHandle | None = None
        """Until when it rests: tasks that are due were left a moment ago, because only reserved slots are free."""
        self._has_newcomer = False
        """A task came that may have a reserved slot, while a claim was not answered that may not know of it."""
        self._wake = runtime.wake
        self._has_room = asyncio.Event()
        self._drain_requested = self._draining = self._grace_over = False
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Task[None] | None = None
        self._end_of_order: asyncio.TimerHandle | None = None
        """While an operator wants no tasks taken: when those that run are given back."""
        runtime.on_orders, runtime.on_more_queues = self._follow_orders, self._claim_from_more_queues
        self._follow_orders()

    @property
    def running(self) -> int:
        """How many attempts run."""
        return len(self._attempts)

    def drain(self) -> None:
        """Claim nothing more; running tasks get the grace, then they are released. A second call releases them now.

        Tasks that only wait for answers are parked at once.
        """
        grace = 0.0 if self._drain_requested else self._runtime.settings.grace
        log.info("worker.draining", running=self.running, grace=grace)
        self._drain_requested = True
        self._stop_claiming()
        self._loop.call_later(grace, self._end_grace)

    def retire(self) -> None:
        """Claim nothing more; running tasks take the time they need. For a worker that another one replaces."""
        log.info("worker.retiring", running=self.running)
        self._stop_claiming()

    def _follow_orders(self) -> None:
        """Stop to claim while an operator wants that, and claim again afterwards; the worker stays."""
        if self._runtime.is_drained == (self._end_of_order is not None) or self._draining:
            return
        if self._end_of_order is not None:
            log.info("worker.resumed")
            self._end_of_order.cancel()
            self._end_of_order = None
            self._claim_soon()
            self._wake.set()
            return
        log.info("worker.drained_by_operator", running=self.running, grace=self._runtime.settings.grace)
        self._take_back()
        self._end_of_order = self._loop.call_later(self._runtime.settings.grace, self._runtime.stop_all, Stop.DRAIN)
        for attempt in list(self._attempts):
            attempt.park_without_delay()
        self._set_room()

    @property
    def _takes_no_tasks(self) -> bool:
        return self._draining or self._end_of_order is not None

    def _stop_claiming(self) -> None:
        self._draining = True
        self._wake.set()
        self._runtime.announce_leaving()
        for attempt in list(self._attempts):
            attempt.park_without_delay()
        self._take_back()
        if self._listener is not None:
            # It would take the wake-up for what this worker releases, and no worker that stays would get it.
            self._listener.cancel()

    async def work(self) -> None:
        """Work until drained or idle for too long. Outages of the store are waited out."""
        self._listener = asyncio.create_task(self._listen(), name="taskmill.wakeup")
        idle_since = self._loop.time()
        try:
            while self._is_busy() or not self._draining:
                self._wake.clear()
                if self._is_busy():
                    idle_since = self._loop.time()
                elif self._is_over(max(idle_since, self._delayed_until)):
                    if not self._waits_with_claim:
                        return
                    self._stop_claiming()
                self._start_batches()
                self._set_room()
                await self._wake.wait()
                self._collect_batches()
        finally:
            await self._close()

    def _is_over(self, idle_since: float) -> bool:
        return self._idle_exit is not None and self._loop.time() - idle_since >= self._idle_exit

    def _is_busy(self) -> bool:
        return bool(self._attempts or self._endings or self._batches or self._postponed)

    def _start_batches(self) -> None:
        """Start batches while there is something to settle or to claim."""
        share = (self._slots.size + 1) // 2
        # A claim that is not answered yet must not take what a leaving worker releases.
        while self._claimer.is_free and not (self._takes_no_tasks and self._batches):
            endings, room = self._endings[:share], self._room_to_claim(share)
            if not endings and (not room or (self._claims and not self._more_due)):
                return
            del self._endings[:share]
            if room:
                self._may_be_due = False
                self._claims += 1
                self._slots.take(room)  # no attempt that goes on may have them meanwhile
            self._start_batch(self._claimer.settle_and_claim(endings, room, self._reserve_of_claim(room)), room)

    def _start_batch(self, sending: Awaitable[Claims], room: int) -> None:
        batch = asyncio.create_task(self._run_batch(sending, room), name="taskmill.batch")
        self._batches.add(batch)
        batch.add_done_callback(lambda _: self._wake.set())

    def _room_to_claim(self, share: int) -> int:
        if self._takes_no_tasks or not (self._may_be_due or self._more_due):
            return 0
        # Of a claim that is not answered yet it is not known whose tasks it takes.
        kept = self._reserve if self._claims or self._rest else 0
        return max(0, min(share, self._slots.free - kept))

    def _reserve_of_claim(self, room: int) -> Reserve | None:
        """Which of the slots that a claim has taken are reserved."""
        slots = min(room, self._reserve - self._slots.free)
        if slots <= 0:
            return None
        holders = {attempt.holder for attempt in self._attempts} - {None}
        return Reserve(slots, tuple(str(holder) for holder in holders), self._look_from)

    async def _run_batch(self, sending: Awaitable[Claims], room: int) -> None:
        used = 0
        try:
            claims = await sending
            used = len(claims.tasks)
        finally:
            self._claims -= bool(room)
            self._slots.release_unused(room - used)
        self._begin(claims, room)

    def _begin(self, claims: Claims, room: int) -> None:
        """Begin what a claim of `room` tasks has brought."""
        used = len(claims.tasks)
        for claimed in claims.tasks:
            self._start(self._runtime.attempt(claimed))
        if room:
            self._plan_next_claim(claims)
        self._look_from = claims.look_next or 0
        if claims.look_next is not None and used < room:
            if self._has_newcomer:
                self._may_be_due = True
            else:
                self._rest = self._rest or self._loop.call_later(_REST, self._end_rest)
        if room:  # what only settles knows of no task
            self._has_newcomer = False

    def _plan_next_claim(self, claims: Claims) -> None:
        self._more_due = claims.wait_ms == 0
        # Sooner it may be the lease of another worker, later a task that is held or waits for an answer.
        wait = timedelta(milliseconds=claims.wait_ms or 0)
        if claims.wait_ms is None or wait > LONGEST_DELAY:
            self._delayed_until = 0.0
        elif wait.total_seconds() > self._runtime.settings.lease:
            self._delayed_until = self._loop.time() + wait.total_seconds()
        if claims.wait_ms and claims.wait_ms < self._runtime.settings.poll * 1000:
            self._delayed_until = max(self._delayed_until, self._loop.time() + wait.total_seconds())
            self._loop.call_later(claims.wait_ms / 1000, self._claim_soon)
            self._planned_at = max(self._planned_at, self._loop.time() + wait.total_seconds())

    def _end_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._claim_soon()

    def _claim_soon(self) -> None:
        self._may_be_due = True
        self._start_batches()
        self._set_room()

    def _start(self, attempt: Attempt) -> None:
        self._attempts.add(attempt)
        if attempt.holder is not None:
            self._reserve = self._runtime.settings.reserve
        attempt.begin(partial(self._end, attempt))
        if self._takes_no_tasks:
            attempt.park_without_delay()
        order = self._end_of_order
        if self._grace_over or (order is not None and order.when() <= self._loop.time()):
            attempt.stop(Stop.DRAIN)

    def _end(self, attempt: Attempt, ending: Ending | None) -> None:
        self._attempts.discard(attempt)
        if ending is not None:
            self._endings.append(ending)
        self._wake.set()

    def _send_later(self, ending: Finish) -> None:
        """The store has no room for a result. Its task stays active, so that its lease is renewed meanwhile."""
        if not ending.refusals:
            log.warning("task.no_room_for_result", task_id=ending.task.id, tool=ending.task.tool)
        self._postponed += 1
        again = without_room(ending, is_last=self._draining)
        self._loop.call_later(_ROOM_PAUSE, self._send_again, again)

    def _send_again(self, ending: Finish) -> None:
        self._postponed -= 1
        self._endings.append(ending)
        self._wake.set()

    def _collect_batches(self) -> None:
        for batch in [batch for batch in self._batches if batch.done()]:
            self._batches.discard(batch)
            batch.result()

    async def _listen(self) -> None:
        while True:
            await self._has_room.wait()
            try:
                if self._rest is not None:
                    came = await self._wakeup.wait_for_newcomer(max(0.001, self._rest.when() - self._loop.time()))
                    self._has_newcomer = came and bool(self._claims)
                    self._end_rest()
                    continue
                if self._is_idle():
                    await self._wait_and_claim()
                    continue
                await self._claim_after_wait(await self._wakeup.wait(self._runtime.settings.poll))
            except OperatorError:
                self._take_back()
                await asyncio.sleep(self._runtime.settings.poll)
                self._claim_soon()

    async def _claim_after_wait(self, is_woken: bool) -> None:
        """Claim after a wait that no claim went with; a token that this worker has no use for goes to another."""
        if is_woken and (self._rest is not None or not self._has_room.is_set()):
            await self._wakeup.pass_on()
        self._claim_soon()

    def _is_idle(self) -> bool:
        """Whether a claim may go with the wait: no tool runs, which could block the event loop while Redis gives this
        worker a task; and no claim is planned, for which the other may have the only slot.
        """
        return not self._attempts and self._planned_at <= self._loop.time()

    async def _wait_and_claim(self) -> None:
        self._slots.take()
        self._waits_with_claim = True
        reserve = self._reserve_of_claim(1)
        woken, claims = await self._claimer.wait_and_claim(self._wakeup, self._runtime.settings.poll, reserve)
        if not self._waits_with_claim:  # it was taken back meanwhile
            await self._claim_after_wait(woken)
            return
        self._waits_with_claim = False
        self._slots.release_unused(1 - (len(claims.tasks) if claims else 0))
        if claims is None:
            self._claim_soon()
            return
        self._begin(claims, 1)
        self._start_batches()
        self._set_room()
        self._wake.set()
        await asyncio.sleep(0)  # a tool that does not wait has ended then, and the worker is idle again

    def _take_back(self) -> None:
        """A claim that goes with a wait takes nothing any more; what it has taken comes with a batch."""
        if self._waits_with_claim:
            self._waits_with_claim = False
            self._claims += 1
            self._start_batch(self._claimer.take_back(), 1)

    def _claim_from_more_queues(self) -> None:
        """The claim that goes with a wait knows only the queues of before."""
        self._take_back()
        self._claim_soon()

    def _set_room(self) -> None:
        """The worker listens only while it has room and no claim is unanswered: a claim's reply says what is due.

        While it rests it listens for tasks that may have a reserved slot.
        """
        has_slot = self._slots.free or self._waits_with_claim
        if has_slot and not self._takes_no_tasks and not self._claims:
            self._has_room.set()
        else:
            self._has_room.clear()
        if self._rest is not None or not self._has_room.is_set():
            self._may_be_due = self._may_be_due or not self._claims

    def _end_grace(self) -> None:
        self._grace_over = True
        self._runtime.stop_all(Stop.DRAIN)
        self._wake.set()

    async def _close(self) -> None:
        self._draining = True
        tasks = [task for task in (self._listener, *self._batches) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
