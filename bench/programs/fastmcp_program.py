"""FastMCP with its tasks extension under test: `serve PORT`, `work`, `send TOOL COUNT GAP`, `cancel COUNT`.

Redis: FASTMCP_DOCKET_URL. A server always brings a worker of FASTMCP_DOCKET_CONCURRENCY slots in its own process; that
is how it ships. Run by the interpreter of `.venv-peers`.
"""

import asyncio
import secrets
import sys
import time

from docket import Docket
from fastmcp import Context, FastMCP
from fastmcp_tasks import TasksExtension
from fastmcp_tasks.components import add_component_to_docket, register_component_with_docket
from fastmcp_tasks.keys import build_task_key
from fastmcp_tasks.settings import DocketSettings
from fastmcp_tasks.worker_cli import tasks_app
from journal import note_now, noted
from pace import paced
from task_tools import add_tools

mcp = FastMCP("bench")
mcp.add_extension(TasksExtension())
add_tools(mcp, Context)


async def send(tool: str, count: int, gap: float) -> None:
    """Add tasks to the docket by the call that the server ends with, without what it writes before."""
    settings = DocketSettings()
    (component,) = [one for one in await mcp.get_tasks() if one.name == tool]
    async with Docket(name=settings.name, url=settings.url) as docket:
        register_component_with_docket(component, docket)

        async def add() -> None:
            key = build_task_key(None, secrets.token_urlsafe(32), "tool", component.key)
            arguments = {"sent_ns": time.monotonic_ns()} if tool == "stamp" else {}
            await add_component_to_docket(component, docket, arguments, fn_key=component.key, task_key=key)

        await paced(add, count, gap)


async def cancel(count: int) -> None:
    """Start one task after the other and cancel each once it runs, by the call that the server ends with."""
    settings = DocketSettings()
    (component,) = [one for one in await mcp.get_tasks() if one.name == "cling"]
    async with Docket(name=settings.name, url=settings.url) as docket:
        register_component_with_docket(component, docket)
        for number in range(count):
            name, key = f"n{number}", build_task_key(None, secrets.token_urlsafe(32), "tool", component.key)
            await add_component_to_docket(component, docket, {"name": name}, fn_key=component.key, task_key=key)
            while not noted("clinging", name):  # noqa: ASYNC110 (another process says it)
                await asyncio.sleep(0.002)
            note_now("cancelling", name)
            await docket.cancel(key)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    if mode == "serve":
        mcp.run(
            transport="http",
            host="127.0.0.1",
            port=int(words[0]),
            log_level="warning",
            show_banner=False,
            uvicorn_config={"access_log": False},
        )
    elif mode == "work":
        tasks_app(["worker", __file__])
    elif mode == "cancel":
        asyncio.run(cancel(int(words[0])))
    else:
        asyncio.run(send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
