"""What a server's memory gains by tasks that came, ran and ended: all of it is in Redis, or it is not."""

from bench.cases.case import Case
from bench.contenders import FASTMCP, FASTMCP_MEMORY, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, call_tool, get_task, run_client
from bench.plan import Plan
from bench.processes import await_value
from bench.stage import Stage

__all__ = ["MEMORY"]

_TASKS = 10_000
_FIRST = 300


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    """Peers, which are slow here, run fewer tasks in a short run; what they gain is told for as many as ours ran."""
    ours = max(200, int(_TASKS * plan.scale))
    count = ours if contender is TASKMILL else plan.count(ours // 2, least=50)
    with Stage(contender) as stage:
        server = stage.serve(concurrency=10)
        _run_tasks(server, _FIRST)
        program = stage.programs[0]
        before = program.memory()
        _run_tasks(server, count)
        return {"memory_gain": (program.memory() - before) / 1e6 * ours / count}


def _run_tasks(server: Endpoint, count: int) -> None:
    """Call, and wait for the last one: it was called last and is taken last."""

    async def call() -> str:
        load = await server.load(call_tool("nop"), lines=4, seconds=120, most=count, expect=b'"taskId"')
        assert len(load.latencies) == count
        return str((await server.ask(call_tool("nop")))["taskId"])

    last = run_client(call)
    await_value(lambda: _has_ended(server, last) or None, "the last task to end", seconds=60, every=0.05)


def _has_ended(server: Endpoint, task_id: str) -> bool:
    return bool(run_client(lambda: server.ask(get_task(task_id)))["status"] == "completed")


MEMORY = Case(
    "memory",
    (TASKMILL, FASTMCP, FASTMCP_MEMORY),
    (
        Figure(
            "memory_gain",
            "memory a server gains by 10,000 tasks",
            "MB",
            more_is_better=False,
            goal=Goal("≤ 5 MB", lambda _: 5.0),
            digits=1,
        ),
    ),
    _measure,
)
