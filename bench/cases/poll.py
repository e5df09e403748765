"""What a client that polls waits: from its call to the result, and from a tool's message to its sight of it."""

import asyncio
import re
import statistics
import time

from bench.cases.case import Case
from bench.contenders import FASTMCP, FASTMCP_MEMORY, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.mcp_client import Endpoint, Line, call_tool, get_task, listen_to, run_client
from bench.plan import Plan
from bench.stage import Stage

__all__ = ["POLL"]

_INTERVAL = 0.02
_CLOSE = 0.002
"""Seconds between two polls of a client that wants to see every message soon."""
_GAP = 0.1
"""Seconds between two messages."""
_TICK = re.compile(rb"tick (\d+)")


def _measure(contender: Contender, plan: Plan) -> dict[str, float]:
    with Stage(contender) as stage:
        server = stage.serve(concurrency=10)
        calls, messages = plan.count(100), plan.count(60)
        figures = {"poll_over": run_client(lambda: _over(server, calls))}
        figures["seen_p50"] = run_client(lambda: _seen(server, messages))
        if contender is TASKMILL:
            figures["pushed_p50"] = run_client(lambda: _pushed(server, messages))
        return figures


async def _over(server: Endpoint, count: int) -> float:
    """Milliseconds from a call to its result, less the one interval that the client waits in any case; the median."""
    async with server.line() as line:
        waits = [await _once(line) for _ in range(count + 5)][5:]
    return (statistics.median(waits) - _INTERVAL) * 1000


async def _once(line: Line) -> float:
    began = time.perf_counter()
    request = get_task((await line.result(call_tool("nop")))["taskId"])
    while True:
        await asyncio.sleep(_INTERVAL)
        if (await line.result(request))["status"] == "completed":
            return time.perf_counter() - began


async def _seen(server: Endpoint, count: int) -> float:
    """Milliseconds from a report to the poll that shows it; the median."""
    waits, last = list[float](), b""
    async with server.line() as line:
        request = get_task((await line.result(call_tool("tick", {"gap": _GAP})))["taskId"])
        while len(waits) < count + 2:
            await asyncio.sleep(_CLOSE)
            found = _TICK.search(await line.ask(request))
            if found and found[1] != last:
                last = found[1]
                waits.append((time.monotonic_ns() - int(last)) / 1e6)
    return statistics.median(waits[2:])


async def _pushed(server: Endpoint, count: int) -> float:
    """Milliseconds from a report to its notification; the median."""
    waits, enough = list[float](), asyncio.Event()

    def told(piece: bytes) -> None:
        for found in _TICK.finditer(piece):
            waits.append((time.monotonic_ns() - int(found[1])) / 1e6)
        if len(waits) >= count + 2:
            enough.set()

    async with server.line() as line, server.line() as stream, asyncio.timeout(30 + 2 * count * _GAP):
        task = await line.result(call_tool("tick", {"gap": _GAP}))
        stream.hear(listen_to(task["taskId"]), told)
        await enough.wait()
    return statistics.median(waits[2:])


def _figure(key: str, title: str, peer: str, factor: float, digits: int = 2) -> Figure:
    return Figure(
        key,
        title,
        "ms",
        more_is_better=False,
        peers=(FASTMCP.name,) if key == peer else (),
        goal=Goal(f"≤ {factor:g}x FastMCP's polls", lambda medians: factor * medians[peer, FASTMCP.name]),
        digits=digits,
    )


POLL = Case(
    "poll",
    (TASKMILL, FASTMCP, FASTMCP_MEMORY),
    (
        _figure("poll_over", "call to result, polling every 20 ms, over those 20 ms, p50", "poll_over", 0.4),
        _figure("seen_p50", "message reported to seen, polling every 2 ms, p50", "seen_p50", 0.65),
        _figure("pushed_p50", "message reported to pushed to its client, p50", "seen_p50", 0.5),
    ),
    _measure,
)
