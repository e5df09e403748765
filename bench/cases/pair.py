"""What a second worker brings: for tasks that do nothing, where the cores end it, and for tasks that wait.

Both workers drain a full queue, then one of them goes on alone.
"""

import time

from bench.cases.case import Case
from bench.contenders import SAQ, TASKMILL, Contender
from bench.cores import Busy, Watch
from bench.figures import Figure, Goal, Medians
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["FULL", "PAIR", "is_full"]

_SLOTS = 10
_TASKS = {TASKMILL.name: 30_000}
_OTHERS = 10_000
_WAITING = 4000
_EVERY = 0.02
FULL = 95.0
"""Percent of the cores, or of one by Redis, from which on there is nothing left for a second worker."""


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    gain, busy = _gain(contender, plan, "nop", _TASKS.get(contender.name, _OTHERS))
    waiting, _ = _gain(contender, plan, "nap", _WAITING)
    return {
        "pair_gain": gain,
        "pair_cores": busy.cores,
        "pair_others": busy.others,
        "pair_redis": busy.redis,
        "pair_waiting": waiting,
    }


def _gain(contender: Contender, plan: Plan, tool: str, queued: int) -> tuple[float, Busy]:
    """The rate of two workers divided by that of one, and how busy everything was with the two."""
    with Stage(contender) as stage:
        stage.fill(tool, max(1000, int(queued * plan.scale)))
        workers = [stage.work(_SLOTS) for _ in range(2)]
        stage.await_note("started", len(workers))
        time.sleep(0.2)  # what a start leaves to be done
        watch = Watch(stage)
        two = _rate(stage, plan, until=stage.unfinished() // 2)
        busy = watch.busy()
        stage.end(workers[0])
        return two / _rate(stage, plan), busy


def _rate(stage: Stage, plan: Plan, until: int = 0) -> float:
    """Tasks settled a second, in a stretch of time that ends early when only `until` are left.

    Raises:
        RuntimeError: not one was settled.
    """
    queued, began = stage.unfinished(), time.monotonic()
    deadline = began + max(0.3, min(plan.burst, 1.5))
    left = queued
    while left > until and time.monotonic() < deadline:
        time.sleep(_EVERY)
        left = stage.unfinished()
    if left == queued:
        raise RuntimeError("no task was settled")
    return (queued - left) / (time.monotonic() - began)


def is_full(medians: Medians) -> str:
    """Why two workers that do no more than one have done enough, "" where that does not hold.

    The machine has to be full of what is measured: one that others fill excuses nothing.
    """
    cores, others, redis = (medians[key, TASKMILL.name] for key in ("pair_cores", "pair_others", "pair_redis"))
    if redis >= FULL:
        return f"Redis full: {redis:.0f} % of a core"
    if cores >= FULL and others <= 100 - FULL:
        return f"cores full: {cores:.0f} % busy"
    return ""


def _percent(key: str, title: str) -> Figure:
    return Figure(key, f"the same two workers: {title}", "%", more_is_better=False)


PAIR = Case(
    "pair",
    (TASKMILL, SAQ),
    (
        Figure(
            "pair_gain",
            "drain of no-op tasks by two workers, against one",
            "times",
            more_is_better=True,
            peers=(SAQ.name,),
            goal=Goal(f"≥ 1.6, or cores or Redis full (≥ {FULL:.0f} %)", lambda _: 1.6, otherwise=is_full),
            digits=2,
        ),
        _percent("pair_cores", "how busy all cores were"),
        _percent("pair_others", "the part of that which was other programs'"),
        _percent("pair_redis", "how busy Redis kept its core"),
        Figure(
            "pair_waiting",
            "drain of tasks that wait 20 ms, by two workers of 10 slots, against one",
            "times",
            more_is_better=True,
            peers=(SAQ.name,),
            goal=Goal("≥ 1.6", lambda _: 1.6),
            digits=2,
        ),
    ),
    _measure,
)
