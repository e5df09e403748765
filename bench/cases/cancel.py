"""From a cancel until the running tool meets its CancelledError: by the store's own call, and over MCP."""

import statistics
import time
from collections.abc import Sequence

from bench.cases.case import Case
from bench.contenders import FASTMCP, FASTMCP_MEMORY, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, call_tool, cancel_task, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["CANCEL"]


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    over_mcp = {"cancel_mcp_p50": _over_mcp(contender, plan.count(60))}
    if contender is FASTMCP_MEMORY:
        return over_mcp  # nobody outside its process can cancel
    with Stage(contender) as stage:
        count = plan.count(100)
        stage.work(10)
        stage.drive("cancel", count, seconds=120)
        called = stage.await_note("cancelling", count)
        return {"cancel_p50": _median(called, stage.await_note("cancelled", count)), **over_mcp}


def _over_mcp(contender: Contender, count: int) -> float:
    with Stage(contender) as stage:
        server = stage.serve(concurrency=10)
        called = [run_client(lambda name=f"n{number}": _cancel(stage, server, name)) for number in range(count)]
        return _median(called, stage.await_note("cancelled", count))


async def _cancel(stage: Stage, server: Endpoint, name: str) -> list[str]:
    """Cancel a call once it runs; its name, and when that was."""
    task = await server.ask(call_tool("cling", {"name": name}))
    stage.await_note("clinging", int(name[1:]) + 1)
    async with server.line() as line:
        at = time.monotonic_ns()
        await line.result(cancel_task(task["taskId"]))
        return [name, str(at)]


def _median(called: Sequence[Sequence[str]], met: Sequence[Sequence[str]]) -> float:
    ended = {name: int(at) for name, at in met}
    return statistics.median((ended[name] - int(at)) / 1e6 for name, at in called)


CANCEL = Case(
    "cancel",
    (TASKMILL, FASTMCP, FASTMCP_MEMORY),
    (
        Figure(
            "cancel_p50",
            "cancel call to CancelledError in the tool, p50",
            "ms",
            more_is_better=False,
            peers=(FASTMCP.name,),
            goal=Goal("≤ 0.6x docket", lambda medians: 0.6 * medians["cancel_p50", FASTMCP.name]),
            digits=2,
        ),
        Figure(
            "cancel_mcp_p50",
            "tasks/cancel over MCP to CancelledError in the tool, p50",
            "ms",
            more_is_better=False,
            peers=(FASTMCP.name,),
            goal=Goal("≤ 0.5x FastMCP", lambda medians: 0.5 * medians["cancel_mcp_p50", FASTMCP.name]),
            digits=2,
        ),
    ),
    _measure,
)
