"""From a cancel call until the running tool meets its CancelledError."""

import statistics

from bench.cases.case import Case
from bench.contenders import FASTMCP, WINDLASS, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["CANCEL"]


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(100)
    with Stage(contender) as stage:
        stage.work(10)
        stage.drive("cancel", count, seconds=120)
        called = {name: int(at) for name, at in stage.await_note("cancelling", count)}
        met = {name: int(at) for name, at in stage.await_note("cancelled", count)}
    return {"cancel_p50": statistics.median((met[name] - at) / 1e6 for name, at in called.items())}


CANCEL = Case(
    "cancel",
    (WINDLASS, FASTMCP),
    (
        Figure(
            "cancel_p50",
            "cancel call to CancelledError in the tool, p50",
            "ms",
            more_is_better=False,
            peers=(FASTMCP.name,),
            goal=Goal("≤ 0.75x docket", lambda medians: 0.75 * medians["cancel_p50", FASTMCP.name]),
            digits=2,
        ),
    ),
    _measure,
)
