"""Windlass under test: `serve PORT`, `work`, `send TOOL COUNT GAP`. Settings: WINDLASS_*."""

import asyncio
import logging
import sys
import time

import structlog
import uvicorn
from journal import note, note_first, note_now
from pace import paced

from windlass.engine.principal import ANONYMOUS, new_task_id
from windlass.engine.record import NewTask
from windlass.server import Context, TaskServer
from windlass.store.settings import StoreSettings
from windlass.store.tasks import open_store
from windlass.workers.settings import WorkerSettings
from windlass.workers.worker import Worker

mcp = TaskServer("bench")


@mcp.tool(task=True)
async def nop() -> str:
    """Do nothing."""
    note_first("started")
    return "done"


@mcp.tool(task=True)
async def stamp(sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


@mcp.tool(task=True)
async def hold() -> str:
    """Run until the process ends."""
    note_now("held")
    await asyncio.Event().wait()
    return "released"


@mcp.tool(task=True)
async def report(count: int, ctx: Context) -> str:
    """Report progress `count` times, note how long that took, and stay."""
    started = time.perf_counter()
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"report {step}")
    note("reported", count, time.perf_counter() - started)
    await asyncio.Event().wait()
    return "done"


async def send(tool: str, count: int, gap: float) -> None:
    """Create tasks as the server does, without MCP in front."""
    async with open_store(StoreSettings()) as store:

        async def create() -> None:
            task_id = new_task_id()
            arguments = {"sent_ns": time.monotonic_ns()} if tool == "stamp" else {}
            payload = store.pack(task_id, {"arguments": arguments})
            await store.create(NewTask(id=task_id, tool=tool, principal=ANONYMOUS, payload=payload))

        await paced(create, count, gap)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if mode == "serve":
        uvicorn.run(mcp.http_app(), host="127.0.0.1", port=int(words[0]), log_level="warning")
    elif mode == "work":
        Worker(mcp, WorkerSettings()).run()
    else:
        asyncio.run(send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
