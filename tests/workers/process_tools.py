"""A server whose tools start processes, as an author's would: helpers that they end, pools, what they leave."""

import asyncio
import json
import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from taskmill.server import Context, TaskConfig, TaskServer

Ctx = Context[Any, Any]
FORK = multiprocessing.get_context("fork")
HOUR = 3600
mcp: TaskServer[Any] = TaskServer("Processes")


def note(journal: str, what: str, ctx: Ctx, pid: int) -> None:
    with Path(journal).open("a") as file:
        file.write(json.dumps([what, ctx.task_id, ctx.attempt, ctx.fence, pid, time.monotonic()]) + "\n")


def end_helpers(number: signal.Signals) -> str:
    """Starts two helpers and ends them with a signal; their exit codes."""
    working = [FORK.Event() for _ in range(2)]
    helpers = [FORK.Process(target=work, args=(event,)) for event in working]
    for helper, event in zip(helpers, working, strict=True):
        helper.start()
        if number is signal.SIGINT:
            # Before the helper's own code runs, KeyboardInterrupt may be lost, in any Python program.
            event.wait(30)
        assert helper.pid is not None
        os.kill(helper.pid, number)
    for helper in helpers:
        helper.join(30)
    return " ".join(str(helper.exitcode) for helper in helpers)


def work(begun: Any) -> None:
    begun.set()
    FORK.Event().wait(HOUR)


def square(number: int) -> int:
    return number * number


@mcp.tool(task=True)
def helpers_in_a_thread(number: int) -> str:
    """Forks beside the event loop."""
    return end_helpers(signal.Signals(number))


@mcp.tool(task=True)
async def helpers_on_the_loop(number: int) -> str:
    """Forks in the thread of the event loop."""
    return end_helpers(signal.Signals(number))


@mcp.tool(task=TaskConfig(isolation="process"))
def helpers_in_isolation(number: int) -> str:
    """Forks in a tool process."""
    return end_helpers(signal.Signals(number))


@mcp.tool(task=True)
async def walk(journal: str, gate: str, ctx: Ctx) -> str:
    """The neighbour: runs until the gate is there."""
    note(journal, "start", ctx, os.getpid())
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return "walked"


@mcp.tool(task=True)
def pool_in_a_thread(n: int) -> int:
    """A pool that ends with its block."""
    with FORK.Pool(n) as pool:
        return sum(pool.map(square, range(n)))


@mcp.tool(task=TaskConfig(isolation="process"))
def pool_in_isolation(n: int) -> int:
    """The same in a tool process."""
    with FORK.Pool(n) as pool:
        return sum(pool.map(square, range(n)))


@mcp.tool(task=True)
def impatient_pool(journal: str, ctx: Ctx) -> str:
    """Gives up on what its pool does; the pool ends with its block."""
    with FORK.Pool(2) as pool:
        for process in multiprocessing.active_children():
            note(journal, "child", ctx, process.pid or 0)
        try:
            return str(pool.apply_async(time.sleep, (HOUR,)).get(0.2))
        except multiprocessing.TimeoutError:
            return "gave up"


@mcp.tool(task=True)
def leave_processes(journal: str, how: str, ctx: Ctx) -> str:
    """Starts processes that work for an hour, and forgets them."""
    return leave(journal, how, ctx)


@mcp.tool(task=TaskConfig(isolation="process"))
def leave_processes_in_isolation(journal: str, how: str, ctx: Ctx) -> str:
    """The same in a tool process."""
    return leave(journal, how, ctx)


def leave(journal: str, how: str, ctx: Ctx) -> str:
    if how == "executor":
        executor = ProcessPoolExecutor(2, mp_context=FORK)
        left.append(executor)
        executor.submit(time.sleep, HOUR)
    elif how == "pool":
        pool = FORK.Pool(2)
        left.append(pool)
        pool.apply_async(time.sleep, (HOUR,))
    else:
        process = FORK.Process(target=time.sleep, args=(HOUR,), daemon=how == "daemon")
        process.start()
        left.append(process)
    for child in multiprocessing.active_children():
        note(journal, "child", ctx, child.pid or 0)
    return how


left: list[Any] = []
"""What the tools forgot: nothing collects it before the process ends."""
