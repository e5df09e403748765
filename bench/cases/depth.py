"""What a task costs with a deep queue behind it, and what memory a queued one takes there, against a short queue.

The cost is the processor time of worker and Redis a task, which a busy machine hardly changes. The two queues, each
with a Redis and a worker of its own, are drained in turns; the worker whose turn it is not stands still. The repair
that looks at every open task now and then is kept out: it costs by the clock, not by the task.
"""

import statistics
import time
from dataclasses import replace

from bench.cases.case import Case
from bench.contenders import WINDLASS, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["DEPTH"]

_SLOTS = 10
_REST = 100
"""Tasks that stay in the short queue."""
_TASKS = 4500
"""Tasks of a turn."""
_TURNS = 5
_EVERY = 0.004


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    tasks = plan.count(_TASKS, least=50)
    contender = replace(contender, environment={**contender.environment, "WINDLASS_RECONCILE_EVERY": "86400"})
    with Stage(contender) as one, Stage(contender) as other:
        short, deep = _Queue(one, tasks, _REST), _Queue(other, tasks, int(plan.depth * plan.scale))
        costs = [(short.drain(), deep.drain()) for _ in range(_TURNS)]
    few, many = (statistics.median(turns) for turns in zip(*costs, strict=True))
    return {
        "depth_cost": many / few,
        "depth_memory": deep.bytes / short.bytes,
    }


class _Queue:
    """A queue of `rest` tasks, and so many more in every turn; its worker has run some and stands still."""

    def __init__(self, stage: Stage, tasks: int, rest: int) -> None:
        self._stage, self._tasks, self._rest = stage, tasks, rest
        self._worker = stage.work(_SLOTS)
        stage.warm_up()
        self._worker.pause()
        empty = stage.redis.usage()
        stage.send("nop", rest + tasks)
        self.bytes = stage.redis.usage().since(empty).memory / (rest + tasks)
        """Of a queued task."""
        self._worker.resume()
        self._drain()

    def drain(self) -> float:
        """Have one turn's tasks run; seconds of processor time a task."""
        self._stage.send("nop", self._tasks)
        queued, began = self._stage.unfinished(), self._cpu_seconds()
        self._worker.resume()
        self._drain()
        return (self._cpu_seconds() - began) / (queued - self._stage.unfinished())

    def _drain(self) -> None:
        deadline = time.monotonic() + 60
        while self._stage.unfinished() > self._rest and time.monotonic() < deadline:
            time.sleep(_EVERY)
        self._worker.pause()

    def _cpu_seconds(self) -> float:
        return self._worker.cpu_seconds() + self._stage.redis.program.cpu_seconds()


DEPTH = Case(
    "depth",
    (WINDLASS,),
    (
        Figure(
            "depth_cost",
            "processor time of worker and Redis a task with a deep queue behind it, against 100 tasks",
            "times",
            more_is_better=False,
            goal=Goal("flat: ≤ 1.3", lambda _: 1.3),
            digits=2,
        ),
        Figure(
            "depth_memory",
            "Redis memory of a queued task in a deep queue, against a short one",
            "times",
            more_is_better=False,
            goal=Goal("flat: ≤ 1.3", lambda _: 1.3),
            digits=2,
        ),
    ),
    _measure,
)
