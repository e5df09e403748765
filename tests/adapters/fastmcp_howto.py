"""The servers of docs/fastmcp-howto.md: called as a task, in two halves, and in the foreground by FastMCP alone."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

import httpx2
import uvicorn
from fastmcp import Client, FastMCP
from mcp_types import CallToolResult

from taskmill.testing import TestBed
from tests.support.replica import Rpc, serving
from tests.support.waiting import eventually

__all__ = [
    "PAGE",
    "Halves",
    "blocks",
    "declared",
    "in_foreground",
    "in_halves",
    "logged",
    "run",
    "section",
    "serving_aside",
    "visible",
]

PAGE = Path(__file__).parents[2] / "docs" / "fastmcp-howto.md"
Json = dict[str, Any]
_TASKMILL = re.compile(r"^(from taskmill.*\n|mcp\.add_extension\((.*\)\n|\n(.*\n)*?\)\n))", re.MULTILINE)


@dataclass(frozen=True)
class Halves:
    """A call as a task."""

    at_call: list[str]
    """What was recorded until the client had the task."""
    in_worker: list[str]
    """What was recorded after that."""
    result: Json
    """As `visible` has it; the protocol error of a task that failed."""


def section(heading: str) -> str:
    """A section of the page."""
    return PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(heading: str) -> list[str]:
    """The Python of a section."""
    return re.findall(r"^```python\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL)


def declared(heading: str, *, tasks: bool = True, swap: Mapping[str, str] = MappingProxyType({})) -> Json:
    """What the Python of a section declares.

    `tasks=False`: without a word of tasks, for FastMCP alone. `swap`: what stands in the place of what.
    """
    code = "\n".join(blocks(heading))
    if not tasks:
        code = _TASKMILL.sub("", code.replace("task=True", "task=False"))
    for old, new in swap.items():
        assert old in code, f"{old} is not in the section {heading}"
        code = code.replace(old, new)
    return run(code, heading)


def run(code: str, heading: str) -> Json:
    """What some Python of a section declares."""
    names: Json = {"__name__": "server"}
    exec(compile(code, f"{PAGE.name}, {heading}", "exec"), names)
    return names


async def in_halves(bed: TestBed, log: list[str], tool: str, *, token: str | None = None, **arguments: Any) -> Halves:
    """Call a tool while no worker runs, then start one. `log`: what the server records."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(timeout=30, headers=headers) as http:
        rpc = Rpc(http, bed.url)
        await bed.stop_worker()
        log.clear()
        task_id = await rpc.task(tool, **arguments)
        at_call = list(log)
        await bed.start_worker()
        await bed.until(task_id, within=30)
        in_worker = log[len(at_call) :]
        task = (await rpc.get(task_id))["result"]
    return Halves(at_call, in_worker, visible(task["result"]) if "result" in task else task["error"])


async def in_foreground(server: FastMCP[Any], tool: str, *, token: str | None = None, **arguments: Any) -> Json:
    """What FastMCP alone answers."""
    async with serving(server.http_app()) as address, Client(f"{address}/mcp", auth=token) as client:
        return visible(await client.call_tool_mcp(tool, arguments))


@contextmanager
def serving_aside(app: Any, port: int = 0) -> Iterator[str]:
    """An application on a port, 0 = a free one, in a thread and a loop of its own; its address.

    A server is asked for its tools when it is loaded, and the loop of the test waits for that.
    """
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def visible(result: CallToolResult | Json) -> Json:
    """What a model reads of a result."""
    whole = CallToolResult.model_validate(result, by_name=False) if isinstance(result, dict) else result
    return whole.model_dump(mode="json", include={"content", "structured_content", "is_error"}, exclude_none=True)


@contextmanager
def logged(*loggers: str) -> Iterator[list[str]]:
    """The messages of these loggers, as they come."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    known = [logging.getLogger(name) for name in loggers]
    levels = [one.level for one in known]
    for one in known:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
    try:
        yield seen
    finally:
        for one, level in zip(known, levels, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)
