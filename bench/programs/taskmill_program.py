"""Taskmill under test: `serve PORT`, `work`, `send TOOL COUNT GAP`, `await COUNT GAP`, `cancel COUNT`.

`serve PORT through-the-sdk` takes no short way. Settings: TASKMILL_*. BENCH_FRAMEWORK=fastmcp: the tools are those of
a FastMCP server. BENCH_UPSTREAM: those of the server at this address, or of this command.
"""

import asyncio
import logging
import os
import sys
import time
from typing import Any

import structlog
import uvicorn
from journal import note, note_first, note_now, noted
from pace import paced
from task_tools import add_tools

from taskmill.engine.principal import ANONYMOUS, new_task_id
from taskmill.engine.record import NewTask
from taskmill.server import Context, TaskServer
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.worker import Worker


async def nap() -> str:
    """Wait 20 ms."""
    note_first("started")
    await asyncio.sleep(0.02)
    return "done"


def made_server() -> Any:
    """A server with the tools."""
    if upstream := os.environ.get("BENCH_UPSTREAM"):
        from taskmill.adapters.foreign_servers import remote_host

        return remote_host(upstream)
    if os.environ.get("BENCH_FRAMEWORK") != "fastmcp":
        server: Any = TaskServer("bench")
        add_tools(server, Context)
        server.tool(task=True)(nap)
        return server
    import fastmcp

    from taskmill.adapters.fastmcp import FastMCPHost

    framework: Any = fastmcp.FastMCP("bench")
    add_tools(framework, fastmcp.Context)
    framework.tool(task=True)(nap)
    return FastMCPHost(framework)


mcp = made_server()


async def send(tool: str, count: int, gap: float) -> None:
    """Create tasks as the server does, without MCP in front."""
    async with open_store(StoreSettings()) as store:

        async def create() -> None:
            task_id = new_task_id()
            arguments = {"sent_ns": time.monotonic_ns()} if tool == "stamp" else {}
            payload = store.pack(task_id, {"arguments": arguments}, tool=tool, principal=ANONYMOUS)
            await store.create(NewTask(id=task_id, tool=tool, principal=ANONYMOUS, payload=payload))

        await paced(create, count, gap)


async def await_results(count: int, gap: float) -> None:
    """Create one task after the other and wait for each one's result."""
    async with open_store(StoreSettings()) as store:

        async def apply() -> None:
            began = time.perf_counter()
            task_id = new_task_id()
            payload = store.pack(task_id, {"arguments": {}}, tool="nop", principal=ANONYMOUS)
            await store.create(NewTask(task_id, "nop", ANONYMOUS, payload))
            async with store.feed.follow(task_id) as subscription:
                while not (await store.read(task_id, ANONYMOUS)).record.is_terminal:
                    await subscription.updates()
            note("answered", time.perf_counter() - began)

        await paced(apply, count, gap)


async def cancel(count: int) -> None:
    """Start one task after the other and cancel each once it runs."""
    async with open_store(StoreSettings()) as store:
        for number in range(count):
            task_id, name = new_task_id(), f"n{number}"
            payload = store.pack(task_id, {"arguments": {"name": name}}, tool="cling", principal=ANONYMOUS)
            await store.create(NewTask(task_id, "cling", ANONYMOUS, payload))
            while not noted("clinging", name):  # noqa: ASYNC110 (another process says it)
                await asyncio.sleep(0.002)
            note_now("cancelling", name)
            await store.cancel(task_id, ANONYMOUS)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    if mode == "serve":
        app = mcp.http_app(**({"fast_paths": False} if words[1:] else {}))
        uvicorn.run(app, host="127.0.0.1", port=int(words[0]), log_level="warning", access_log=False)
    elif mode == "work":
        Worker(mcp, WorkerSettings()).run()
    elif mode == "await":
        asyncio.run(await_results(int(words[0]), float(words[1])))
    elif mode == "cancel":
        asyncio.run(cancel(int(words[0])))
    else:
        asyncio.run(send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
