"""Creating tasks over MCP: tools/call until the task's handle is back. No worker takes any, so only servers count.

The bare SDK's plain call of the same tool, with no task behind it, is the floor.
"""

from bench.cases.case import Case
from bench.contenders import FASTMCP, FASTMCP_MEMORY, SDK, TASKMILL, TASKMILL_FASTMCP, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import call_tool, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["CREATE"]

_LINES = 8
_MOST = 50_000


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    expect = b'"content"' if contender is SDK else b'"taskId"'
    request = call_tool("nop")
    with Stage(contender) as stage:
        server = stage.serve()

        async def work() -> dict[str, float]:
            await server.load(request, lines=_LINES, seconds=plan.burst / 4, most=200, expect=expect)
            together = await server.load(request, lines=_LINES, seconds=plan.burst, most=_MOST, expect=expect)
            alone = await server.load(request, lines=1, seconds=plan.burst / 2, most=_MOST, expect=expect)
            return {"create_rate": together.rate, "create_p50": alone.p50_ms}

        return run_client(work)


CREATE = Case(
    "create",
    (TASKMILL, TASKMILL_FASTMCP, FASTMCP, FASTMCP_MEMORY, SDK),
    (
        Figure(
            "create_rate",
            f"create a task over MCP, {_LINES} connections",
            "calls/s",
            more_is_better=True,
            peers=(FASTMCP.name,),
            goal=Goal("≥ 5x FastMCP", lambda medians: 5 * medians["create_rate", FASTMCP.name]),
        ),
        Figure(
            "create_p50",
            "create a task over MCP, one after the other, p50",
            "ms",
            more_is_better=False,
            peers=(FASTMCP.name,),
            goal=Goal("≤ 1/3 of FastMCP", lambda medians: medians["create_p50", FASTMCP.name] / 3),
            digits=2,
        ),
    ),
    _measure,
)
