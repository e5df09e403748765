"""The server that chaos is made around: one tool for each way in which a tool can behave or misbehave.

Every attempt notes its effect in a journal outside Redis, under the fence it was given; the result names task and
fence. `CHAOS_VERSION` 1 does not know the tool `newer`.
"""

import asyncio
import json
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer
from tests.chaos.journal import STEPS, Journal
from tests.support.tokens import guarded_options

Ctx = Context[Any, Any]

GIGABYTE = 1 << 30
mcp: TaskServer[Any] = TaskServer("Chaos", **guarded_options())
_journals: dict[int, Journal] = {}

if "CHAOS_MEMORY_LIMIT" in os.environ:
    limit = int(os.environ["CHAOS_MEMORY_LIMIT"])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Consent(BaseModel):
    yes: bool


def effect(n: int, ctx: Ctx) -> None:
    """What cannot be taken back."""
    journal().note("effect", ctx.task_id, ctx.attempt, ctx.fence, n)


def result(n: int, ctx: Ctx) -> str:
    return json.dumps({"n": n, "task": ctx.task_id, "fence": ctx.fence})


def journal() -> Journal:
    pid = os.getpid()
    if pid not in _journals:
        _journals[pid] = Journal(Path(os.environ["CHAOS_JOURNALS"]) / f"tools-{pid}")
    return _journals[pid]


async def _parcel(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
    yield b"." * 100_000


@mcp.tool(task=True)
async def quick(n: int, ctx: Ctx) -> str:
    """Ends at once."""
    effect(n, ctx)
    return result(n, ctx)


@mcp.tool(task=True)
async def walk(n: int, seconds: float, ctx: Ctx) -> str:
    """Takes a while and says so."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        await ctx.report_progress(seconds - left, seconds, f"{n} walks")
        await asyncio.sleep(0.1)
    effect(n, ctx)
    return result(n, ctx)


@mcp.tool(task=True)
def stroll(n: int, seconds: float, ctx: Ctx) -> str:
    """`walk` as a plain function."""
    ctx.report_progress(0, 1)
    time.sleep(seconds)
    effect(n, ctx)
    return result(n, ctx)


@mcp.tool(task=TaskConfig(retries=3, backoff=0.2))
async def flaky(n: int, ctx: Ctx) -> str:
    """Fails at first."""
    effect(n, ctx)
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return result(n, ctx)


@mcp.tool(task=True)
async def refuse(n: int, ctx: Ctx) -> str:
    """Answers with an error of its own."""
    effect(n, ctx)
    raise MCPError(-32050, str(n))


@mcp.tool(task=True)
async def leave(n: int, ctx: Ctx) -> str:
    """Tries to end its process politely."""
    effect(n, ctx)
    raise SystemExit(n)


@mcp.tool(task=True)
async def die(n: int, ctx: Ctx) -> str:
    """Ends its process, the first time."""
    effect(n, ctx)
    if ctx.attempt == 1:
        os._exit(3)
    return result(n, ctx)


@mcp.tool(task=True)
async def block(n: int, seconds: float, ctx: Ctx) -> str:
    """Holds up the event loop, and so its neighbours."""
    effect(n, ctx)
    time.sleep(seconds)  # noqa: ASYNC251 (blocking the loop is what it is for)
    return result(n, ctx)


@mcp.tool(task=TaskConfig(timeout=0.5))
def hang(n: int, seconds: float, ctx: Ctx) -> str:
    """A thread that does not end when its time is up."""
    effect(n, ctx)
    time.sleep(seconds)
    return result(n, ctx)


@mcp.tool(task=True)
async def hog(n: int, ctx: Ctx) -> str:
    """Wants more memory than there is."""
    effect(n, ctx)
    return str(len(bytearray(64 * GIGABYTE)))


@mcp.tool(task=TaskConfig(idempotency="{n}"))
async def ask(n: int, ctx: Ctx) -> str:
    """Wants to know something first.

    A client whose call was lost with its server calls again, and must find that task: no one else would answer it.
    """
    answer = await ctx.elicit(f"Shall {n}?", Consent)
    effect(n, ctx)
    assert answer.action == "accept"
    return result(n, ctx)


@mcp.tool(task=TaskConfig(retries=20, backoff=0.1))
async def travel(n: int, seconds: float, ctx: Ctx) -> str:
    """Takes three durable steps; each notes that it was taken, and the result says under which fences."""

    def take(name: str) -> int:
        journal().note("step", ctx.task_id, name, ctx.fence)
        return ctx.fence

    taken = []
    for name in STEPS:
        taken.append(await ctx.step(name, take, name))
        await asyncio.sleep(seconds)
    effect(n, ctx)
    return json.dumps({"n": n, "task": ctx.task_id, "fence": ctx.fence, "steps": taken})


@mcp.tool(task=TaskConfig(concurrency_key=lambda given: f"desk {given['n'] % 2}", concurrency_limit=2))
async def queue(n: int, seconds: float, ctx: Ctx) -> str:
    """Shares a lane with every order of its kind."""
    await asyncio.sleep(seconds)
    effect(n, ctx)
    return result(n, ctx)


@mcp.tool(task=True)
async def deliver(n: int, ctx: Ctx) -> list[Any]:
    """Attaches an artifact that says whose it is, and emits on the way."""
    await ctx.emit(f"{n} is packed")
    link = await ctx.attach(_parcel(result(n, ctx)), name="parcel.txt", mime_type="text/plain")
    effect(n, ctx)
    return [result(n, ctx), link]


@mcp.tool(task=TaskConfig(isolation="process", retries=20, backoff=0.1))
def isolate(n: int, ctx: Ctx) -> str:
    """Runs in a process of its own, and one of three ends it the first time."""
    ctx.report_progress(1, 2)
    effect(n, ctx)
    if ctx.attempt == 1 and n % 3 == 0:
        os._exit(3)
    return result(n, ctx)


if os.environ.get("CHAOS_VERSION") != "1":

    @mcp.tool(task=True)
    async def newer(n: int, ctx: Ctx) -> str:
        """Came with the second version."""
        effect(n, ctx)
        return result(n, ctx)
