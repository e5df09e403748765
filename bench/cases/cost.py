"""What one task costs from its call over MCP to its end: Redis commands, bytes and memory, processor time."""

import time

from bench.cases.case import Case
from bench.contenders import FASTMCP, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, call_tool, run_client
from bench.plan import Plan
from bench.processes import await_value
from bench.stage import Stage

__all__ = ["COST"]

_LINES = 4
_TASKS = 1200
_PEERS = (FASTMCP.name,)


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    with Stage(contender) as stage:
        server = stage.serve(concurrency=10)
        _run_tasks(stage, server, 50)
        count = plan.count(_TASKS, least=20)
        before, cpu = stage.redis.usage(), stage.cpu_seconds()
        _run_tasks(stage, server, count)
        used, cpu = stage.redis.usage().since(before), stage.cpu_seconds() - cpu
    return {
        "cost_redis": used.cpu_seconds * 1e6 / count,
        "cost_commands": used.commands / count,
        "cost_bytes": used.bytes / count,
        "cost_memory": used.memory / count,
        "cost_cpu": cpu * 1000 / count,
        "cost_queued": _queued_memory(contender, count),
    }


def _queued_memory(contender: Contender, count: int) -> float:
    """Bytes of a task that waits for a worker."""
    with Stage(contender) as stage:
        server = stage.serve()
        _call(server, 50)
        before = stage.redis.usage()
        _call(server, count)
        return stage.redis.usage().since(before).memory / count


def _call(server: Endpoint, count: int) -> None:
    async def call() -> None:
        await server.load(call_tool("nop"), lines=_LINES, seconds=60, most=count, expect=b'"taskId"')

    run_client(call)


def _run_tasks(stage: Stage, server: Endpoint, count: int) -> None:
    _call(server, count)
    await_value(lambda: stage.unfinished() == 0 or None, "the tasks to end", seconds=60, every=0.05)
    time.sleep(0.1)  # what a worker does after the end of a task belongs to it


COST = Case(
    "cost",
    (TASKMILL, FASTMCP),
    (
        Figure(
            "cost_commands",
            "Redis commands a task, those inside scripts included",
            "commands",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 22", lambda _: 22.0),
            digits=1,
        ),
        Figure("cost_bytes", "bytes to and from Redis a task", "bytes", more_is_better=False, peers=_PEERS),
        Figure(
            "cost_memory",
            "Redis memory a finished task",
            "bytes",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 1.8 kB", lambda _: 1800.0),
        ),
        Figure(
            "cost_queued",
            "Redis memory a queued task",
            "bytes",
            more_is_better=False,
            goal=Goal("≤ 1.8 kB", lambda _: 1800.0),
        ),
        Figure(
            "cost_redis",
            "processor time of Redis a task",
            "us",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 110 us", lambda _: 110.0),
        ),
        Figure(
            "cost_cpu",
            "processor time of server and worker a task",
            "ms",
            more_is_better=False,
            peers=_PEERS,
            goal=Goal("≤ 1/3 of FastMCP", lambda medians: medians["cost_cpu", FASTMCP.name] / 3),
            digits=2,
        ),
    ),
    _measure,
)
