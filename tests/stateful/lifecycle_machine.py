"""The lifecycle as a state machine: any sequence of moves over a real Redis, against a model in plain Python.

The model knows what a task is, not how it is stored. Each step does one thing on both sides and compares the replies;
behind each step the whole of Redis must be what the model says and keep the invariants. Time stands still: leases and
delays are an hour, and run out only when a rule says so.
"""

import argparse
import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from taskmill.engine.errors import FenceLost, QuestionMismatch, TaskNotFound
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned, outcome_from_json
from taskmill.engine.record import NewTask, Progress
from taskmill.engine.status import Status
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.workers.settings import WorkerSettings
from tests.support.arq_worker import NAME as STOCK
from tests.support.arq_worker import StockWorker
from tests.support.invariants import Checker, Found
from tests.support.ordering_model import MOMENT, OrderingModel
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture, question

__all__ = ["Machine", "run_machine"]

HELD = (Status.RUNNING, Status.INPUT_REQUIRED)
ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
CRASH_LIMIT = 2
HOUR = 3600
ROUND = 500
"""Sequences that one seed stands for in a long run."""
OUTCOMES: list[Outcome] = [
    Returned({"n": 1}),
    Returned({"n": 2}),
    Failed(Fault.TIMEOUT, "too long"),
    Returned({"n": 3}, is_error=True),
    Refused(-32602, "no"),
]
REASONS = [None, None, "timeout", "tool_error", None]

LATER = None
Place = tuple[int, float]
"""Where a due task stands in the queue's order: 0 in line, or 1 by the time that was run out by a rule."""


@dataclass
class Model:
    """One task as it should be."""

    principal: str
    place: Place | None
    """None = not due."""
    listed_for: str = ""
    status: Status = Status.PENDING
    seq: int = 1
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    failures: int = 0
    worker: str | None = None
    reason: str | None = None
    progress: Progress = field(default_factory=Progress)
    asked: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    delayed: bool = False
    in_queue: bool = True
    has_job: bool = True
    mark: int | None = None
    """The fence in arq's mark."""
    tries: bool = False
    """A stock worker has counted a try."""

    @property
    def is_held(self) -> bool:
        return self.status in HELD

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        """Nobody will run it again, so its arguments go."""
        return self.status is Status.COMPLETED and self.reason is None

    @property
    def is_marked(self) -> bool:
        """Something else left arq's mark on it while it was pending."""
        return self.status is Status.PENDING and self.mark is not None

    @property
    def is_parked(self) -> bool:
        return self.status is Status.INPUT_REQUIRED and self.worker is None

    @property
    def waits_in_memory(self) -> bool:
        return self.status is Status.INPUT_REQUIRED and self.worker is not None

    @property
    def open_questions(self) -> set[str]:
        return set() if self.has_ended else set(self.asked) - set(self.answers)

    def end(self, status: Status, reason: str | None, outcome: Outcome | None = None) -> None:
        self.status, self.reason, self.outcome = status, reason, outcome
        self.seq += 1
        self.in_queue = self.has_job = self.tries = False
        self.mark = None


class Machine(RuleBasedStateMachine):
    """Rules do; `_do_...` says it to Redis and to the model, so that any of it can be said again later."""

    redis_url = ""
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = Redis.from_url(self.redis_url)
        configured = StoreSettings(redis_url=self.redis_url, lease=HOUR, crash_limit=CRASH_LIMIT)
        self.stores = self.run(self._empty_stores(configured))
        self.stock = self.run(self._stock_worker())
        self.stock_runs: dict[str, int] = {}
        """Fence of each attempt of the stock worker."""
        self.marks = False
        """Whether claims leave arq's mark: from the first claim of a task by its id on."""
        self.checker = Checker()
        self.model: dict[str, Model] = {}
        self.once: dict[tuple[str, str], str] = {}
        self.turns: dict[str, tuple[str, list[str]]] = {}
        self.said: list[Callable[[], Any]] = []
        self.clock = 0
        self.line = OrderingModel()

    async def _empty_stores(self, configured: StoreSettings) -> StoreFixture:
        await self.redis.flushall()
        return StoreFixture(self.redis, configured)

    async def _stock_worker(self) -> StockWorker:
        return StockWorker(self.redis, WorkerSettings(**self.stores.settings.model_dump()))

    def teardown(self) -> None:
        self.run(self._leave_nothing())
        self.loop.close()

    async def _leave_nothing(self) -> None:
        """An example may end with a task out of its queue, and with attempts of a stock worker."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.redis.flushall()
        await self.redis.aclose()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        # Not asyncio.Runner: what it does about signals costs as much as a round trip.
        return self.loop.run_until_complete(work)

    def say(self, do: Callable[..., Any], *args: Any) -> Any:
        self.said.append(lambda: do(*args))
        return do(*args)

    def say_under(self, shift: int, do: Callable[..., Any], *args: Any) -> None:
        """Under a fence `shift` from the last: one that no worker was given cannot come again once there is one."""
        if shift > 0:
            do(*args)
        else:
            self.say(do, *args)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def fence_of(self, task_id: str, shift: int) -> int:
        """Around the last fence that somebody was given; nobody is given the one of a parked task."""
        model = self.model[task_id]
        return model.fence - 1 + min(shift, 0) if model.is_parked else model.fence + shift

    # What can be done to a task, each by the right caller and by wrong ones.

    fences = st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1])
    workers = st.sampled_from(["ann", "bob"])
    callers = st.sampled_from([OWNER, OWNER, STRANGER, OPERATOR])
    ends = st.sampled_from([False, False, True])
    """Whether to do what ends a task for good; otherwise few would live long enough to meet anything else."""

    @initialize(target=tasks, held=st.integers(0, 2))
    def begin(self, held: int) -> Any:
        ids = [self.create(OWNER, None) for _ in range(3)]
        self.claim("ann", held, True)
        return multiple(*ids)

    @precondition(lambda self: len(self.model) < 5)
    @rule(
        target=tasks,
        principal=st.sampled_from([OWNER, STRANGER]),
        once=st.sampled_from([None, None, "key"]),
        listed=st.booleans(),
    )
    def create(self, principal: str, once: str | None, listed: bool = True) -> str:
        lister = principal if listed else ""
        task = self.stores.task(id=f"task-{self.tick()}", principal=principal, idempotency=once, listed_for=lister)
        return str(self.say(self._do_create, task))

    @rule(worker=workers, room=st.sampled_from([3, 9, 1, 0]), in_turn=st.booleans())
    def claim(self, worker: str, room: int, in_turn: bool) -> None:
        self.say(self._do_claim, worker, room, str(self.tick()) if in_turn else "", ())

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def claim_again(self, data: st.DataObject) -> None:
        """The reply to a turn was lost, and what it took may be somebody else's by now."""
        worker = data.draw(st.sampled_from(sorted(self.turns)))
        self.say(self._do_claim, worker, 3, self.turns[worker][0], ())

    @rule(worker=workers, task=tasks)
    def claim_by_id(self, worker: str, task: str) -> None:
        self.say(self._do_claim, worker, 1, "", (task,))

    @rule(task=tasks, rescued=st.booleans())
    def let_time_pass(self, task: str, rescued: bool) -> None:
        """The lease of a held task ends, or the delay of a released one."""
        model = self.model[task]
        if not model.has_ended and model.in_queue and model.place is LATER:
            model.place, model.mark = (1, MOMENT + self.tick()), None
            self.run(self._run_out(task, model.place[1]))
            if rescued:
                self.claim_by_id("bob", task)

    async def _run_out(self, task: str, score: float) -> None:
        await self.redis.zadd(self.stores.keys.queue("default"), {task: score}, xx=True)
        await self.redis.delete(self.stores.keys.in_progress(task))

    @rule(held=st.lists(st.tuples(tasks, fences), max_size=3, unique_by=lambda pair: pair[0]))
    def renew(self, held: list[tuple[str, int]]) -> None:
        leases = [(task, self.fence_of(task, shift)) for task, shift in held]
        self.say_under(max((shift for _, shift in held), default=0), self._do_renew, leases)

    @rule(task=tasks, shift=fences, done=st.sampled_from([None, 1.0, 2.0]))
    def progress(self, task: str, shift: int, done: float | None) -> None:
        self.say_under(shift, self._do_progress, task, self.fence_of(task, shift), Progress(done))

    @rule(task=tasks, shift=fences, delay=st.sampled_from([0, HOUR]), failures=st.integers(0, 1))
    def release(self, task: str, shift: int, delay: int, failures: int) -> None:
        self.say_under(shift, self._do_release, task, self.fence_of(task, shift), delay, failures)

    @rule(task=tasks, shift=fences)
    def park(self, task: str, shift: int) -> None:
        self.say_under(shift, self._do_park, task, self.fence_of(task, shift))

    @precondition(lambda self: any(model.waits_in_memory for model in self.model.values()))
    @rule(data=st.data())
    def park_what_waits(self, data: st.DataObject) -> None:
        self.park(data.draw(st.sampled_from([task for task, model in self.model.items() if model.waits_in_memory])), 0)

    @rule(task=tasks, shift=fences, outcome=st.sampled_from(OUTCOMES), really=ends)
    def finish(self, task: str, shift: int, outcome: Outcome, really: bool) -> None:
        if really or shift:
            self.say_under(shift, self._do_finish, task, self.fence_of(task, shift), outcome)

    @rule(task=tasks, caller=callers, really=ends)
    def cancel(self, task: str, caller: str, really: bool) -> None:
        if really or caller == STRANGER:
            self.say(self._do_cancel, task, caller)

    @rule(task=tasks, shift=fences, first=st.integers(1, 2), count=st.integers(1, 3), odd=st.integers(0, 9))
    def ask(self, task: str, shift: int, first: int, count: int, odd: int) -> None:
        texts = {n: "something else?" if n == odd else "sure?" for n in range(first, first + count)}
        self.say_under(shift, self._do_ask, task, self.fence_of(task, shift), texts)

    @precondition(lambda self: any(model.open_questions for model in self.model.values()))
    @rule(data=st.data(), caller=callers, keys=st.sets(st.integers(1, 4)), value=st.integers(0, 9))
    def answer(self, data: st.DataObject, caller: str, keys: set[int], value: int) -> None:
        asking = [task for task, model in self.model.items() if model.open_questions]
        self.answer_any(data.draw(st.sampled_from(asking)), caller, keys, value)

    @rule(task=tasks, caller=callers, keys=st.sets(st.integers(1, 4)), value=st.integers(0, 9))
    def answer_any(self, task: str, caller: str, keys: set[int], value: int) -> None:
        self.say(self._do_answer, task, caller, {f"input-{n}": {"value": value} for n in sorted(keys)})

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0, 200))
    def say_again(self, which: int) -> None:
        """Any call of the past arrives once more: its reply was lost, or its worker was paused."""
        self.said[-1 - which % len(self.said)]()

    @precondition(lambda self: self.said)
    @rule()
    def lose_the_reply(self) -> None:
        """The last call did happen, but its caller does not know, and says it again."""
        self.said[-1]()

    # A stock arq worker on the same queue, step by step; a claim of its own is one of those that may come again.

    @rule(task=tasks)
    def stock_worker_takes(self, task: str) -> None:
        model = self.model[task]
        if task in self.stock_runs:
            return  # as in arq, which knows what it runs by id
        if model.in_queue and model.place is not LATER and model.mark is None:
            if model.has_job:
                self._stock_worker_claims(task)
            else:  # arq takes it for a job that has expired, and drops it with its counter
                model.in_queue = model.tries = False
        self.run(self.stock.take(task))

        assert sorted(self.stock.running) == sorted(self.stock_runs)

    def _stock_worker_claims(self, task: str) -> None:
        model = self.model[task]
        model.tries = True
        if self._takes_named(STOCK, (task,)):
            self.stock_runs[task] = model.fence
        self._forget_the_line()

    @precondition(lambda self: self.stock_runs)
    @rule(which=st.integers(0, 4), outcome=st.sampled_from(OUTCOMES[:2]))
    def stock_worker_ends(self, which: int, outcome: Outcome) -> None:
        """Whatever its word is worth by now; arq tidies up behind it, which may hit another worker's mark.

        What it counts as done it takes off the queue, also where something else had put an ended task back.
        """
        task = sorted(self.stock_runs)[which % len(self.stock_runs)]
        model = self.model[task]
        if self._finish_reply(task, self.stock_runs.pop(task), outcome) == b"lost":
            model.mark = None
        else:
            model.in_queue = False
        self.run(self.stock.end(task, outcome))

    @precondition(lambda self: self.stock_runs)
    @rule()
    def stock_worker_is_killed(self) -> None:
        self.stock_runs.clear()
        self.stock = self.run(self._stock_worker())

    # What others can do to arq's keys, and the repair.

    @rule(task=tasks, what=st.sampled_from(["queue", "job", "mark", "no mark", "whole queue"]))
    def damage(self, task: str, what: str) -> None:
        model, keys = self.model[task], self.stores.keys
        if what == "whole queue":
            for each in self.model.values():
                each.in_queue = False
            self.run(self.redis.delete(keys.queue("default")))
        elif model.has_ended:
            model.in_queue, model.place = True, (1, MOMENT + self.tick())
            self.run(self.redis.zadd(keys.queue("default"), {task: model.place[1]}))
        elif what == "queue":
            model.in_queue = False
            self.run(self.redis.zrem(keys.queue("default"), task))
        elif what == "job":
            model.has_job = False
            self.run(self.redis.delete(keys.job(task)))
        elif what == "no mark":
            model.mark = None
            self.run(self.redis.delete(keys.in_progress(task)))
        elif model.status is Status.PENDING:
            model.mark = 1
            self.run(self.redis.set(keys.in_progress(task), 1, px=HOUR * 1000))

    @rule()
    def reconcile(self) -> None:
        mended = 0
        for model in (self.model[task] for task in self._by_creation() if not self.model[task].has_ended):
            mended += (not model.in_queue) + (not model.has_job) + model.is_marked
            if not model.in_queue:
                model.place = LATER if model.is_held or model.delayed else self._stand_in_front(model)
            if model.is_marked:
                model.mark = None
            model.in_queue = model.has_job = True
        self.run(self.redis.delete(self.stores.keys.reconciling))

        assert self.run(self.stores.ann.reconcile(timedelta(hours=1))) == mended

    def _by_creation(self) -> list[str]:
        found = self.run(self.stores.found())
        return list(found.members(self.stores.keys.live))

    # The two sides of each move.

    def _do_create(self, task: NewTask) -> str:
        there = task.id in self.model
        key = (task.principal, task.idempotency or "")
        first = self.once.get(key, task.id)
        if first in self.model and self.model[first].has_ended and not self.model[first].succeeded:
            first = task.id
        expected = task.id if there or not task.idempotency else first
        if expected not in self.model:
            self.model[expected] = Model(task.principal, self._stand(task.principal), listed_for=task.listed_for)
            if task.idempotency:
                self.once[key] = expected

        assert self.run(self.stores.store.create(task)).record.id == expected
        return expected

    def _do_claim(self, worker: str, room: int, turn: str, ids: tuple[str, ...]) -> None:
        expected = self._expected_claims(worker, room, turn, ids)
        store = getattr(self.stores, worker)

        claims = self.run(self.stores.claim(store, room, batch_id=turn, ids=ids))

        assert [(task.id, task.fence, task.attempt, task.crashes, task.failures) for task in claims.tasks] == expected
        waiting = [model for model in self.model.values() if model.in_queue]
        due = [model for model in waiting if model.place is not LATER]
        assert (claims.wait_ms is None) == (not waiting)
        assert (claims.wait_ms == 0) == bool(due)

    def _expected_claims(self, worker: str, room: int, turn: str, ids: tuple[str, ...]) -> list[tuple[Any, ...]]:
        known = self.turns.get(worker)
        repeats = turn and known and known[0] == turn
        if repeats and known:
            taken = [task for task in known[1] if self.model[task].is_held and self.model[task].worker == worker]
        else:
            taken = self._takes_named(worker, ids) if ids else self._takes_from_head(worker, room)
        self._forget_the_line()
        if turn and (taken or room == 0) and not repeats:  # what was let go and taken since is told of again
            self.turns[worker] = (turn, taken)
        return [
            (task, model.fence, model.attempt, model.crashes, model.failures)
            for task, model in ((task, self.model[task]) for task in taken)
        ]

    def _due(self) -> list[tuple[Place, str]]:
        return sorted((model.place, task) for task, model in self.model.items() if model.in_queue and model.place)

    def _takes_named(self, worker: str, ids: tuple[str, ...]) -> list[str]:
        taken = []
        for task in ids:
            place, model = next((place for place, each in self._due() if each == task), None), self.model[task]
            if place is not None and place[0] == 1 and model.status is Status.PENDING:
                model.place = self._stand(model.principal)  # its delay is over; it is not taken yet
            elif place is not None and self._claims(model, worker, by_id=True):
                taken.append(task)
            if place is not None and place[0] == 0:
                self.line.move_on(place[1])
        self.marks = True
        return taken

    def _takes_from_head(self, worker: str, room: int) -> list[str]:
        """Lapsed leases come before the line; delays that are over go into it."""
        taken = []
        for _, task in [entry for entry in self._due() if entry[0][0] == 1][:room]:
            model = self.model[task]
            if model.status is Status.PENDING:
                model.place = self._stand(model.principal)
            elif self._claims(model, worker):
                taken.append(task)
        left = room - len(taken)
        head, more = self._due()[:left], self._due()[left : left + 1]
        taken += [task for _, task in head if self._claims(self.model[task], worker)]
        served = [place[1] for place, _ in head if place[0] == 0]
        if served and more and more[0][0][0] == 0:
            self.line.move_on(served[-1])
        return taken

    def _forget_the_line(self) -> None:
        if not any(place[0] == 0 for place, _ in self._due()):
            self.line.forget()

    def _stand(self, principal: str) -> Place:
        return 0, self.line.place(principal)

    def _stand_in_front(self, model: Model) -> Place:
        return 0, self.line.place(model.principal, in_front=True)

    def _claims(self, model: Model, worker: str, *, by_id: bool = False) -> bool:
        """False: it was only left over in the queue, has nothing to go on with, or too many workers have died of it."""
        if model.has_ended:
            model.in_queue = False
            return False
        if model.is_parked:
            model.place = LATER
            return False
        model.crashes += model.is_held
        if model.crashes > CRASH_LIMIT:
            model.end(Status.FAILED, "poisoned")
            return False
        model.status, model.worker, model.reason, model.place = Status.RUNNING, worker, None, LATER
        model.delayed = False
        model.fence += 1
        if self.marks or by_id:
            model.mark = model.fence
        model.attempt += 1
        model.seq += 1
        return True

    def _holds(self, task: str, fence: int) -> bool:
        return self.model[task].is_held and self.model[task].fence == fence

    def _do_renew(self, held: list[tuple[str, int]]) -> None:
        expected = [task for task, fence in held if not self._holds(task, fence)]
        for task, fence in held:
            if self._holds(task, fence):
                self.model[task].place, self.model[task].in_queue = LATER, True
                if self.marks:
                    self.model[task].mark = self.model[task].mark or fence  # arq asks only whether there is one

        assert self.run(self.stores.renew(*held)) == expected

    def _do_progress(self, task: str, fence: int, said: Progress) -> None:
        holds, model = self._holds(task, fence), self.model[task]
        if holds and model.progress != said:
            model.progress = said
            model.seq += 1

        assert self.run(self.stores.report((task, fence, said))) == ([] if holds else [task])

    def _do_release(self, task: str, fence: int, delay: int, failures: int) -> None:
        holds, model = self._holds(task, fence), self.model[task]
        if holds:
            model.status, model.worker, model.failures, model.reason = Status.PENDING, None, failures, "why"
            model.delayed, model.in_queue, model.mark = bool(delay), True, None
            model.place = LATER if delay else self._stand_in_front(model)
            model.seq += 1
        call = self.stores.ann.release_call(
            task, fence, delay=timedelta(seconds=delay), failures=failures, reason="why"
        )

        assert self.run(self.stores.run(call)) == [b"released" if holds else b"lost"]

    def _do_park(self, task: str, fence: int) -> None:
        model = self.model[task]
        expected = b"lost"
        if self._holds(task, fence):
            waits = model.status is Status.INPUT_REQUIRED
            expected = b"parked" if waits else b"released"
            model.worker, model.mark, model.in_queue, model.seq = None, None, True, model.seq + 1
            model.place = LATER if waits else self._stand_in_front(model)
            if waits:
                model.fence += 1
            else:
                model.status, model.reason, model.delayed = Status.PENDING, "answered", False

        assert self.run(self.stores.run(self.stores.ann.park_call(task, fence))) == [expected]

    def _do_finish(self, task: str, fence: int, outcome: Outcome) -> None:
        expected = self._finish_reply(task, fence, outcome)

        assert self.run(self.stores.run(self.stores.ann.finish_call(task, fence, outcome))) == [expected]

    def _finish_reply(self, task: str, fence: int, outcome: Outcome) -> bytes:
        model = self.model[task]
        target = Status.COMPLETED if isinstance(outcome, Returned) else Status.FAILED
        if self._holds(task, fence):
            model.end(target, REASONS[OUTCOMES.index(outcome)], outcome)
            return b"finished"
        return b"already" if model.fence == fence and model.outcome == outcome else b"lost"

    def _do_cancel(self, task: str, caller: str) -> None:
        model = self.model[task]
        expected: object = not model.has_ended
        if caller not in (model.principal, OPERATOR):
            expected = TaskNotFound
        elif not model.has_ended:
            model.end(Status.CANCELLED, "why")
            model.fence += 1

        assert self.run(_outcome_of(self.stores.store.cancel(task, caller, reason="why"))) == expected

    def _do_ask(self, task: str, fence: int, texts: dict[int, str]) -> None:
        model = self.model[task]
        expected: object
        asked = {f"input-{number}": text for number, text in texts.items()}
        if not self._holds(task, fence):
            expected = FenceLost
        elif any(model.asked.get(key, text) != text for key, text in asked.items()):
            expected = QuestionMismatch
        else:
            fresh = [key for key in asked if key not in model.asked]
            model.asked.update(asked)
            expected = [model.answers.get(key) for key in asked]
            waits = not all(key in model.answers for key in asked)
            if waits and (fresh or model.status is Status.RUNNING):
                model.status = Status.INPUT_REQUIRED
                model.seq += 1
        questions = [question(number, text) for number, text in texts.items()]

        assert self.run(_outcome_of(self.stores.ann.ask(task, fence, questions))) == expected

    def _do_answer(self, task: str, caller: str, answers: dict[str, Any]) -> None:
        model = self.model[task]
        expected: object = 0
        if caller != model.principal:
            expected = TaskNotFound
        elif not model.has_ended:
            taken = {key: value for key, value in answers.items() if key in model.asked and key not in model.answers}
            model.answers.update(taken)
            model.seq += bool(taken)
            if taken and not model.open_questions and model.status is Status.INPUT_REQUIRED:
                if model.is_parked:
                    model.status, model.place, model.in_queue = Status.PENDING, self._stand_in_front(model), True
                else:
                    model.status = Status.RUNNING
            expected = len(taken)

        assert self.run(_outcome_of(self.stores.store.answer(task, caller, answers))) == expected

    # Behind each step.

    @invariant()
    def redis_holds_what_the_model_says_and_keeps_the_promises(self) -> None:
        found = self.run(self.stores.found())
        amiss = frozenset(
            task
            for task, model in self.model.items()
            if model.in_queue is model.has_ended or not model.has_job or model.is_marked
        )

        assert self.checker.broken(found, amiss) == []
        assert set(found.ids()) == set(self.model)
        for task, model in self.model.items():
            assert self._stored(found, task) == self._modelled(model), task

    def _stored(self, found: Found, task: str) -> tuple[Any, ...]:
        record, keys, values = found.record(task), self.stores.keys, found.values
        result, mark = values.get(keys.result(task)), values.get(keys.in_progress(task))
        inputs = [name.decode() for name in values.get(keys.inputs(task), {})]
        return (
            (record.principal, record.status, record.seq, record.fence, record.attempt, record.crashes),
            (record.failures, record.worker, record.reason, record.progress, record.questions),
            {name.removeprefix("q:") for name in inputs if name.startswith("q:")},
            outcome_from_json(json.loads(result)) if result else None,
            {key for key in values if key.startswith((keys.all, keys.list(""))) and task in found.members(key)},
            (keys.args(task) in values, task in {entry.split(" ")[0] for entry in found.members(keys.fading)}),
            (task in found.members(keys.queue("default")), keys.job(task) in values, int(mark) if mark else None),
            f"arq:retry:{task}" in values,
        )

    def _modelled(self, model: Model) -> tuple[Any, ...]:
        keys = self.stores.keys
        return (
            (model.principal, model.status, model.seq, model.fence, model.attempt, model.crashes),
            (model.failures, model.worker, model.reason, model.progress, len(model.open_questions)),
            model.open_questions,
            model.outcome,
            {keys.all, *([keys.list(model.listed_for)] if model.listed_for else [])},
            (not model.succeeded, model.has_ended),
            (model.in_queue, model.has_job, model.mark),
            model.tries,
        )


async def _outcome_of(work: Coroutine[Any, Any, Any]) -> Any:
    """The result, or the kind of error."""
    try:
        return await work
    except (TaskNotFound, FenceLost, QuestionMismatch) as error:
        return type(error)


def run_machine(url: str, *, examples: int, steps: int, seed_number: int | None = None, shrink: bool = True) -> None:
    """Try that many sequences of so many steps on this Redis, which is emptied; `seed_number`: None = always the same.

    Raises:
        AssertionError, or what broke; Hypothesis prints the shortest sequence it found.
    """
    machine = type("Machine", (Machine,), {"redis_url": url})
    if seed_number is not None:
        machine = seed(seed_number)(machine)
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=seed_number is None,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def main() -> None:
    """Try more sequences than the suite has time for, in rounds that can each be repeated by their seed."""
    parser = argparse.ArgumentParser(prog="scripts/state_machine", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="sequences in all")
    parser.add_argument("--steps", type=int, default=60, help="moves in a sequence, at most")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; a random one unless given")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    first = options.seed if options.seed is not None else random.randrange(10**6)
    began = time.monotonic()
    with PrivateRedis() as server:
        for number, done in enumerate(range(0, options.examples, ROUND), start=first):
            examples = min(ROUND, options.examples - done)
            print(f"seed {number}: {examples} sequences of {options.steps} moves ...", flush=True)
            run_machine(server.url, examples=examples, steps=options.steps, seed_number=number)
            print(f"  sound; {done + examples} in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
