"""One worker and a full queue of tasks that do nothing: settled tasks a second, from the first start to the last end.

Also what a task costs the worker's processor and Redis. A drain that takes too long is cut off, and what was settled
until then counts.
"""

import time
from dataclasses import dataclass

from bench.cases.case import Case
from bench.contenders import (
    ARDIQ,
    ARQ,
    ARQ_TUNED,
    CELERY,
    DRAMATIQ,
    FASTMCP,
    QUEUES,
    TASKMILL,
    TASKMILL_FASTMCP,
    Contender,
)
from bench.figures import Figure, Goal, Medians
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["DRAIN"]

# Enough for a second or more of work at each one's usual rate.
_TASKS = {
    TASKMILL.name: 15_000,
    TASKMILL_FASTMCP.name: 6000,
    FASTMCP.name: 1500,
    ARQ.name: 6000,
    CELERY.name: 4000,
    DRAMATIQ.name: 4000,
}
_OTHERS = 9000
_EVERY = 0.004
_RUST_FACTOR = 1.5
_PEERS = (FASTMCP, ARQ, ARQ_TUNED, *QUEUES)
_NAMES = tuple(peer.name for peer in _PEERS)


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    ten, hundred = (_drained(contender, slots, plan) for slots in (10, 100))
    return {"drain_10": ten.rate, "drain_100": hundred.rate, "drain_cpu": ten.cpu_ms, "drain_commands": ten.commands}


@dataclass(frozen=True)
class _Drained:
    """One drain."""

    rate: float
    """Tasks a second."""
    cpu_ms: float
    """Milliseconds of the worker's processor time a task."""
    commands: float
    """Redis commands a task, those inside scripts included."""


def _drained(contender: Contender, concurrency: int, plan: Plan) -> _Drained:
    count = plan.count(_TASKS.get(contender.name, _OTHERS), least=50)
    with Stage(contender) as stage:
        stage.fill("nop", count)
        stage.work(concurrency)
        ((first_ns,),) = stage.await_note("started")
        cpu, before, queued = stage.cpu_seconds(), stage.redis.usage(), stage.unfinished()
        started = int(first_ns) / 1e9
        deadline = started + max(2 * plan.burst, 0.5)
        left = stage.unfinished()
        while left and time.monotonic() < deadline:
            time.sleep(_EVERY)
            left = stage.unfinished()
        took, done = time.monotonic() - started, max(1, queued - left)
        cpu, used = stage.cpu_seconds() - cpu, stage.redis.usage().since(before)
        return _Drained((count - left) / took, cpu * 1000 / done, used.commands / done)


def _goal(factor: int, key: str) -> Goal:
    """Against the peers in Python by a factor, and against the one with a core in Rust by half as much again."""
    factors = {name: _RUST_FACTOR if name == ARDIQ.name else factor for name in _NAMES}

    def limit(medians: Medians) -> float:
        measured = [times * medians[key, peer] for peer, times in factors.items() if (key, peer) in medians]
        if not measured:
            raise KeyError(key)
        return max(measured)

    return Goal(f"≥ {factor}x the best peer in Python, ≥ {_RUST_FACTOR}x ArdiQ", limit)


DRAIN = Case(
    "drain",
    (TASKMILL, TASKMILL_FASTMCP, *_PEERS),
    (
        *(
            Figure(
                f"drain_{concurrency}",
                f"drain of no-op tasks, one worker, concurrency {concurrency}",
                "tasks/s",
                more_is_better=True,
                peers=_NAMES,
                goal=_goal(factor, f"drain_{concurrency}"),
            )
            for concurrency, factor in ((10, 3), (100, 4))
        ),
        Figure(
            "drain_cpu",
            "the same, concurrency 10: processor time of the worker a task",
            "ms",
            more_is_better=False,
            peers=_NAMES,
            digits=2,
        ),
        Figure(
            "drain_commands",
            "the same, concurrency 10: Redis commands a task, those inside scripts included",
            "commands",
            more_is_better=False,
            peers=_NAMES,
            digits=1,
        ),
    ),
    _measure,
)
