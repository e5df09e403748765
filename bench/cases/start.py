"""From just before a producer's Redis write to the tool's first line, an idle worker waiting.

Tasks come some 20 ms apart, through each contender's own call: our store's create, docket's add, arq's enqueue_job...
"""

import statistics

from bench.cases.case import Case
from bench.contenders import ARQ, ARQ_TUNED, FASTMCP, QUEUES, TASKIQ, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import WARM, Stage

__all__ = ["START"]

_GAP = 0.02
_PEERS = (FASTMCP, ARQ, ARQ_TUNED, *QUEUES)
_NAMES = tuple(peer.name for peer in _PEERS)


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(300)
    with Stage(contender) as stage:
        stage.work(10)
        stage.warm_up()
        stage.send("stamp", count, _GAP)
        stamps = stage.await_note("stamped", WARM + count)[WARM:]
    waits = [(int(started) - int(sent)) / 1e6 for sent, started in stamps]
    return {"start_p50": statistics.median(waits), "start_p99": statistics.quantiles(waits, n=100)[98]}


START = Case(
    "start",
    (TASKMILL, *_PEERS),
    (
        Figure(
            "start_p50",
            "enqueue to start, p50",
            "ms",
            more_is_better=False,
            peers=_NAMES,
            goal=Goal("≤ 1.0x taskiq", lambda medians: medians["start_p50", TASKIQ.name]),
            digits=2,
        ),
        Figure(
            "start_p99",
            "enqueue to start, p99",
            "ms",
            more_is_better=False,
            peers=_NAMES,
            goal=Goal("≤ 1.2x taskiq", lambda medians: 1.2 * medians["start_p99", TASKIQ.name]),
            digits=2,
        ),
    ),
    _measure,
)
