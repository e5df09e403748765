"""Open event streams on one replica: how late events arrive, what the streams cost, and whether that stays so."""

import asyncio
import time

from bench.cases.case import Case
from bench.contenders import TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, call_tool, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["FOLLOWERS"]

_FOLLOWERS = 10_000
_TASKS = 10
_EVENTS = 2000
"""Events delivered a second: how often a task reports depends on how many follow it."""
_START = 300.0


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(_FOLLOWERS, least=20)
    gap = max(0.2, count / _EVENTS)
    seconds = max(2.0, 3 * plan.burst, 4 * gap)
    with Stage(contender) as stage:
        endpoint = stage.serve(concurrency=_TASKS)
        tasks = run_client(lambda: _start_tasks(endpoint, gap))
        stage.await_note("ticking", _TASKS)
        server = stage.programs[0]
        empty, lines = server.memory(), stage.redis.subscriptions()
        stage.follow(endpoint.port, tasks, count, seconds)
        stage.await_note("following", seconds=_START)
        opened = server.memory()
        time.sleep(seconds / 2)
        shared = stage.redis.subscriptions() - lines  # not before: history is told while the subscription is on its way
        ((events, missed, p50, p99),) = stage.await_note("followed", seconds=seconds + _START)
        later = server.memory()
    return {
        "followers_p50": float(p50),
        "followers_p99": float(p99),
        "followers_missed": float(missed),
        "followers_subscriptions": float(shared),
        "followers_memory": (opened - empty) / count / 1000,
        "followers_growth": (later - opened) / 1e6,
        "followers_count": float(count),
        "followers_rate": float(events) / seconds,
    }


async def _start_tasks(server: Endpoint, gap: float) -> list[str]:
    asked = [server.ask(call_tool("tick", {"gap": gap})) for _ in range(_TASKS)]
    return [told["taskId"] for told in await asyncio.gather(*asked)]


FOLLOWERS = Case(
    "followers",
    (TASKMILL,),
    (
        Figure("followers_count", "open event streams on one replica", "streams", more_is_better=True),
        Figure(
            "followers_p50",
            "open event streams: report in the tool to event at the follower, p50",
            "ms",
            more_is_better=False,
            digits=1,
        ),
        Figure(
            "followers_p99",
            "open event streams: report to event, p99",
            "ms",
            more_is_better=False,
            goal=Goal("< 500 ms", lambda _: 500.0),
            digits=1,
        ),
        Figure("followers_rate", "open event streams: events delivered", "events/s", more_is_better=True),
        Figure(
            "followers_missed",
            "open event streams: events missed",
            "events",
            more_is_better=False,
            goal=Goal("none", lambda _: 0.0),
        ),
        Figure(
            "followers_subscriptions",
            "open event streams: Redis subscription connections",
            "",
            more_is_better=False,
            goal=Goal("one", lambda _: 1.0),
        ),
        Figure(
            "followers_memory",
            "open event streams: server memory a stream",
            "kB",
            more_is_better=False,
            goal=Goal("< 30 kB", lambda _: 30.0),
            digits=1,
        ),
        Figure(
            "followers_growth",
            "open event streams: server memory gained while events flow",
            "MB",
            more_is_better=False,
            goal=Goal("flat: ≤ 5 MB", lambda _: 5.0),
            digits=1,
        ),
    ),
    _measure,
)
