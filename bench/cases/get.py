"""Polling: tasks/get on one running task."""

from bench.cases.case import Case
from bench.contenders import FASTMCP, FASTMCP_MEMORY, TASKMILL, TASKMILL_FASTMCP, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import call_tool, get_task, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["GET"]

_LINES = 8
_MOST = 50_000


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    rate, commands = _polled(contender, plan)
    if contender is FASTMCP_MEMORY:
        return {"get_rate": rate}
    if contender is TASKMILL:
        slow, _ = _polled(contender, plan, "through-the-sdk")
        return {"get_rate": rate, "get_commands": commands, "get_sdk_rate": slow}
    return {"get_rate": rate, "get_commands": commands}


def _polled(contender: Contender, plan: Plan, *options: str) -> tuple[float, float]:
    """Polls a second, and Redis commands a poll."""
    with Stage(contender) as stage:
        server = stage.serve(*options, concurrency=10)
        task = run_client(lambda: server.ask(call_tool("hold")))
        stage.await_note("held")
        request = get_task(task["taskId"])

        async def work() -> tuple[float, float]:
            await server.load(request, lines=_LINES, seconds=plan.burst / 4, most=200, expect=b'"working"')
            before = stage.redis.usage()
            load = await server.load(request, lines=_LINES, seconds=plan.burst, most=_MOST, expect=b'"working"')
            used = stage.redis.usage().since(before)
            return load.rate, used.commands / len(load.latencies)

        return run_client(work)


GET = Case(
    "get",
    (TASKMILL, TASKMILL_FASTMCP, FASTMCP, FASTMCP_MEMORY),
    (
        Figure(
            "get_rate",
            f"tasks/get on a running task, {_LINES} connections",
            "calls/s",
            more_is_better=True,
            peers=(FASTMCP.name,),
            goal=Goal("≥ 10x FastMCP", lambda medians: 10 * medians["get_rate", FASTMCP.name]),
        ),
        Figure(
            "get_sdk_rate",
            "the same, by way of the SDK",
            "calls/s",
            more_is_better=True,
            goal=Goal("≥ 3x FastMCP", lambda medians: 3 * medians["get_rate", FASTMCP.name]),
        ),
        Figure(
            "get_commands",
            "Redis commands a tasks/get, those inside scripts included",
            "commands",
            more_is_better=False,
            peers=(FASTMCP.name,),
            digits=1,
        ),
    ),
    _measure,
)
