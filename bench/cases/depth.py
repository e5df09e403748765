"""What a task costs with a deep queue behind it, and what memory a queued one takes there, against a short queue.

The cost is the processor time of worker and Redis a task, which a busy machine hardly changes. The two queues, each
with a Redis and a worker of its own, are drained in turns; the worker whose turn it is not stands still. The repair
that looks at every open task now and then is kept out: it costs by the clock, not by the task.
"""

import statistics
import time
from dataclasses import replace

from bench.cases.case import Case
from bench.contenders import TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["DEPTH"]

_SLOTS = 10
_REST = 100
"""Tasks that stay in the short queue."""
_TASKS = 4500
"""Tasks of a turn."""
_TURNS = 3
_EVERY = 0.004
_PATIENCE = 60.0


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    tasks = plan.count(_TASKS, least=50)
    contender = replace(contender, environment={**contender.environment, "TASKMILL_RECONCILE_EVERY": "86400"})
    with Stage(contender) as one, Stage(contender) as other:
        short = _Queue(one, _REST + tasks)
        deep = _Queue(other, _REST + int(plan.depth * plan.scale) + tasks * (_TURNS + 1))
        costs = [(short.drain(tasks), deep.drain(tasks))]
        for _ in range(_TURNS):
            short.fill(tasks)
            costs.append((short.drain(tasks), deep.drain(tasks)))
    few, many = (statistics.median(turns) for turns in zip(*costs[1:], strict=True))  # the first one is cold
    return {"depth_cost": many / few, "depth_memory": deep.bytes / short.bytes}


class _Queue:
    """A queue with tasks in it, and a worker that stands still between turns."""

    def __init__(self, stage: Stage, tasks: int) -> None:
        self._stage = stage
        self._left = 0
        self._worker = stage.work(_SLOTS)
        stage.warm_up()
        self._worker.pause()
        empty = stage.redis.usage()
        self.fill(tasks)
        self.bytes = stage.redis.usage().since(empty).memory / tasks
        """Of a queued task."""

    def fill(self, tasks: int) -> None:
        """Add so many tasks."""
        self._stage.fill("nop", tasks)
        self._left += tasks

    def drain(self, tasks: int) -> float:
        """Have so many tasks run; seconds of processor time a task."""
        queued, began = self._stage.unfinished(), self._cpu_seconds()
        self._left -= tasks
        deadline = time.monotonic() + _PATIENCE
        self._worker.resume()
        while self._stage.unfinished() > self._left and time.monotonic() < deadline:
            time.sleep(_EVERY)
        self._worker.pause()
        return (self._cpu_seconds() - began) / max(1, queued - self._stage.unfinished())

    def _cpu_seconds(self) -> float:
        return self._worker.cpu_seconds() + self._stage.redis.program.cpu_seconds()


DEPTH = Case(
    "depth",
    (TASKMILL,),
    (
        Figure(
            "depth_cost",
            "processor time of worker and Redis a task with a deep queue behind it, against 100 tasks",
            "times",
            more_is_better=False,
            goal=Goal("flat: ≤ 1.1", lambda _: 1.1),
            digits=2,
        ),
        Figure(
            "depth_memory",
            "Redis memory of a queued task in a deep queue, against a short one",
            "times",
            more_is_better=False,
            goal=Goal("flat: ≤ 1.1", lambda _: 1.1),
            digits=2,
        ),
    ),
    _measure,
)
