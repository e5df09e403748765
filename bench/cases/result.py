"""From just before a producer's write until it holds the result, one task after the other, an idle worker waiting."""

import statistics

from bench.cases.case import Case
from bench.contenders import SAQ, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["RESULT"]

_GAP = 0.01


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(300)
    with Stage(contender) as stage:
        stage.work(10)
        stage.warm_up()
        stage.drive("await", count, _GAP, seconds=60)
        waits = [float(seconds) * 1000 for (seconds,) in stage.await_note("answered", count)]
    return {"result_p50": statistics.median(waits)}


RESULT = Case(
    "result",
    (TASKMILL, SAQ),
    (
        Figure(
            "result_p50",
            "enqueue to result, p50",
            "ms",
            more_is_better=False,
            peers=(SAQ.name,),
            goal=Goal("≤ 0.75x saq", lambda medians: 0.75 * medians["result_p50", SAQ.name]),
            digits=2,
        ),
    ),
    _measure,
)
