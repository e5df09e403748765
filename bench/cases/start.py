"""From just before a producer's Redis write to the tool's first line, an idle worker waiting.

Tasks come some 20 ms apart, through each contender's own call behind MCP: our store's create, docket's add, arq's
enqueue_job.
"""

import statistics

from bench.cases.case import Case
from bench.contenders import ARQ, ARQ_TUNED, FASTMCP, WINDLASS, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["START"]

_GAP = 0.02
_PEERS = (FASTMCP.name, ARQ.name, ARQ_TUNED.name)
# The design's goal is 1.3 times taskiq, which took 1.0 and 1.5 ms where docket took 2.0 and 2.6 ms.
_P50, _P99 = 1.3 * 1.0 / 2.0, 1.3 * 1.5 / 2.6


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(300)
    with Stage(contender) as stage:
        stage.work(10)
        stage.send("stamp", 5)
        stage.await_note("stamped", 5)  # the worker is up and has loaded its scripts
        stage.send("stamp", count, _GAP)
        stamps = stage.await_note("stamped", 5 + count)[5:]
    waits = [(int(started) - int(sent)) / 1e6 for sent, started in stamps]
    return {"start_p50": statistics.median(waits), "start_p99": statistics.quantiles(waits, n=100)[98]}


START = Case(
    "start",
    (WINDLASS, FASTMCP, ARQ, ARQ_TUNED),
    (
        Figure(
            "start_p50",
            "enqueue to start, p50",
            "ms",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 1.3x taskiq (0.65x docket)", lambda medians: _P50 * medians["start_p50", FASTMCP.name]),
            digits=2,
        ),
        Figure(
            "start_p99",
            "enqueue to start, p99",
            "ms",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 1.3x taskiq (0.75x docket)", lambda medians: _P99 * medians["start_p99", FASTMCP.name]),
            digits=2,
        ),
    ),
    _measure,
)
