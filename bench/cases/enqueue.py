"""Enqueueing as fast as one producer process can, without a worker: 50 lanes, for celery and dramatiq one."""

from bench.cases.case import Case
from bench.contenders import ARQ, FASTMCP, QUEUES, SAQ, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["ENQUEUE"]

_PEERS = (FASTMCP, ARQ, *QUEUES)


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    with Stage(contender) as stage:
        stage.send("nop", plan.count(9000, least=50))
        ((count, seconds),) = stage.await_note("sent")
    return {"enqueue_rate": int(count) / float(seconds)}


ENQUEUE = Case(
    "enqueue",
    (TASKMILL, *_PEERS),
    (
        Figure(
            "enqueue_rate",
            "enqueue from one process, 50 lanes",
            "tasks/s",
            more_is_better=True,
            peers=tuple(peer.name for peer in _PEERS),
            goal=Goal("≥ 1x saq", lambda medians: medians["enqueue_rate", SAQ.name]),
        ),
    ),
    _measure,
)
