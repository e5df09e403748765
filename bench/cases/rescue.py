"""From the SIGKILL of a worker until another one runs its task again, at default settings.

Peers take minutes or hours at theirs, so they are not waited for.
"""

import time

from bench.cases.case import Case
from bench.contenders import TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["RESCUE"]


def _measure(contender: Contender, _plan: Plan) -> dict[str, float]:
    with Stage(contender) as stage:
        killed = stage.work(10)
        stage.send("hold", 1)
        stage.await_note("held")
        stage.work(10)
        stage.send("stamp", 20, 0.01)
        stage.await_note("stamped", 20)  # both are at work
        killed_ns = time.monotonic_ns()
        stage.end(killed)
        again = stage.await_note("held", 2)[1]
        return {"rescue": (int(again[0]) - killed_ns) / 1e9}


RESCUE = Case(
    "rescue",
    (TASKMILL,),
    (
        Figure(
            "rescue",
            "SIGKILL of a worker until its task runs again, default settings",
            "s",
            more_is_better=False,
            goal=Goal("≤ the lease of 15 s, and 2 s", lambda _: 17.0),
            digits=1,
        ),
    ),
    _measure,
)
