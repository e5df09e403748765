"""How often one tool can report progress, and whether a client sees the last report while the tool still runs."""

import asyncio
import re
import time

from bench.cases.case import Case
from bench.contenders import FASTMCP, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, call_tool, get_task, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["PROGRESS"]

_REPORTS = {TASKMILL.name: 300_000, FASTMCP.name: 3_000}
_PATIENCE = 5.0


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(_REPORTS[contender.name], least=100)
    with Stage(contender) as stage:
        server = stage.serve(concurrency=10)
        task = run_client(lambda: server.ask(call_tool("report", {"count": count})))
        ((_, seconds),) = stage.await_note("reported")
        seen = run_client(lambda: _sees(server, task["taskId"], count))
    return {"progress_rate": count / float(seconds), "progress_last": float(seen)}


async def _sees(server: Endpoint, task_id: str, count: int) -> bool:
    """Whether the last report shows up in tasks/get before long."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        told = await server.ask(get_task(task_id))
        if re.search(rf"report {count}\b", told.get("statusMessage") or ""):
            return True
        await asyncio.sleep(0.01)
    return False


PROGRESS = Case(
    "progress",
    (TASKMILL, FASTMCP),
    (
        Figure(
            "progress_rate",
            "progress reports from one tool",
            "calls/s",
            more_is_better=True,
            peers=(FASTMCP.name,),
            goal=Goal("≥ 20x FastMCP", lambda medians: 20 * medians["progress_rate", FASTMCP.name]),
        ),
        Figure(
            "progress_last",
            "the last report is seen by a client (1 = always)",
            "",
            more_is_better=True,
            goal=Goal("never lost", lambda _: 1.0),
        ),
    ),
    _measure,
)
