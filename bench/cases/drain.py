"""One worker and a full queue of tasks that do nothing: settled tasks a second, from the first start to the last end.

A drain that takes too long is cut off, and what was settled until then counts.
"""

import time

from bench.cases.case import Case
from bench.contenders import ARQ, ARQ_TUNED, FASTMCP, WINDLASS, Contender
from bench.figures import Figure, Goal, Medians
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["DRAIN"]

# Enough for a second or more of work at each one's usual rate.
_TASKS = {WINDLASS.name: 15_000, FASTMCP.name: 1500, ARQ.name: 6000, ARQ_TUNED.name: 9000}
_EVERY = 0.004
_PEERS = (FASTMCP.name, ARQ.name, ARQ_TUNED.name)
# The design's goals name the best queue it knew, saq: 2,239 and 2,407 a second where docket at concurrency 100, bound
# by the processor as saq was, reached 924. That ratio carries over to another machine; the figures do not.
_SAQ = {10: 2239 / 924, 100: 2407 / 924}


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    return {f"drain_{concurrency}": _drained(contender, concurrency, plan) for concurrency in (10, 100)}


def _drained(contender: Contender, concurrency: int, plan: Plan) -> float:
    count = plan.count(_TASKS[contender.name], least=50)
    with Stage(contender) as stage:
        stage.send("nop", count)
        stage.work(concurrency)
        ((first_ns,),) = stage.await_note("started")
        started = int(first_ns) / 1e9
        deadline = started + max(2 * plan.burst, 0.5)
        left = stage.unfinished()
        while left and time.monotonic() < deadline:
            time.sleep(_EVERY)
            left = stage.unfinished()
        return (count - left) / (time.monotonic() - started)


def _goal(factor: int, concurrency: int) -> Goal:
    times = factor * _SAQ[concurrency]

    def limit(medians: Medians) -> float:
        return times * medians["drain_100", FASTMCP.name]

    return Goal(f"≥ {factor}x saq ({times:.1f}x docket at 100)", limit)


DRAIN = Case(
    "drain",
    (WINDLASS, FASTMCP, ARQ, ARQ_TUNED),
    tuple(
        Figure(
            f"drain_{concurrency}",
            f"drain of no-op tasks, one worker, concurrency {concurrency}",
            "tasks/s",
            more_is_better=True,
            peers=_PEERS,
            goal=_goal(factor, concurrency),
        )
        for concurrency, factor in ((10, 3), (100, 4))
    ),
    _measure,
)
