"""A server whose tools run in processes of their own, one for each thing that can become of such a process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.from_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel

from taskmill.server import Context, Retry, TaskConfig, TaskServer

Ctx = Context[Any, Any]


@asynccontextmanager
async def lifespan(_server: Any) -> AsyncIterator[None]:
    """Notes, if it is told where, who enters and who leaves."""
    journal = os.environ.get("CONFINED_LIFESPANS")
    for word in ("in", "out"):
        if journal:
            with Path(journal).open("a") as file:
                file.write(f"{word} {os.getpid()}\n")
        if word == "in":
            yield


mcp = TaskServer("Confined", lifespan=lifespan)
CONFINED = TaskConfig(isolation="process")
MIB = 1024 * 1024


class Consent(BaseModel):
    yes: bool


def note(journal: str, what: str, ctx: Ctx) -> None:
    with Path(journal).open("a") as file:
        file.write(json.dumps([what, ctx.task_id, ctx.attempt, ctx.fence, os.getpid(), time.monotonic()]) + "\n")


@mcp.tool(task=CONFINED)
def spin(journal: str, ctx: Ctx) -> str:
    """Never ends, and looks at nothing."""
    note(journal, "start", ctx)
    while True:
        pass


@mcp.tool(task=CONFINED)
async def spin_on_the_loop(journal: str, ctx: Ctx) -> str:
    """`spin` as an async tool, which keeps its own loop from hearing anything."""
    note(journal, "start", ctx)
    while True:
        pass


@mcp.tool(task=TaskConfig(isolation="process", timeout=0.5))
def spin_too_long(journal: str, ctx: Ctx) -> str:
    """`spin` with a limit."""
    note(journal, "start", ctx)
    while True:
        pass


@mcp.tool(task=CONFINED)
async def walk(journal: str, gate: str, ctx: Ctx) -> str:
    """Runs until the gate is there; unwinds when it is cancelled."""
    note(journal, "start", ctx)
    try:
        while not Path(gate).exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note(journal, "cancelled", ctx)
        raise
    note(journal, "finish", ctx)
    return f"pid {os.getpid()}"


@mcp.tool(task=True)
async def stroll(journal: str, gate: str, ctx: Ctx) -> str:
    """`walk` in the worker itself."""
    note(journal, "start", ctx)
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return "strolled"


@mcp.tool(task=CONFINED)
async def die(journal: str, how: str, ctx: Ctx) -> str:
    """Ends its process in one of the ways there are."""
    note(journal, "start", ctx)
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        raise SystemExit(3)
    os.kill(os.getpid(), signal.SIGSEGV if how == "crash" else signal.SIGKILL)
    return "still here"


@mcp.tool(task=TaskConfig(isolation="process", retries=1, backoff=0))
async def die_once(journal: str, ctx: Ctx) -> str:
    """Dies at its first attempt."""
    note(journal, "start", ctx)
    if ctx.attempt == 1:
        os._exit(3)
    return f"attempt {ctx.attempt}"


@mcp.tool(task=CONFINED)
def breed(journal: str, ctx: Ctx) -> str:
    """Starts a process of its own and waits for it; notes that one's id as fence."""
    note(journal, "start", ctx)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with Path(journal).open("a") as file:
        line = ["child", ctx.task_id, ctx.attempt, child.pid, os.getpid(), time.monotonic()]
        file.write(json.dumps(line) + "\n")
    child.wait()
    return "bred"


@mcp.tool(task=TaskConfig(isolation="process", memory_limit=400 * MIB))
async def hoard(slowly: bool, ctx: Ctx) -> str:
    """Takes more and more memory, or all at once."""
    if not slowly:
        return str(len(bytearray(4096 * MIB)))
    held = []
    while True:
        held.append(b"x" * (8 * MIB))
        await asyncio.sleep(0.001)


@mcp.tool(task=CONFINED)
async def complain(how: str) -> str:
    """Fails by an error of its own."""
    if how == "tool":
        raise ToolError("the printer is on fire")
    raise LookupError("the secret word is swordfish")


@mcp.tool(task=TaskConfig(isolation="process", retries=2, backoff=0, retry_on=LookupError))
async def stumble(how: str, ctx: Ctx) -> str:
    """Fails at its first attempt, in a way that the policy knows or does not."""
    if ctx.attempt == 1:
        if how == "again":
            raise Retry("not yet", after=0.05)
        raise KeyError(how) if how == "known" else ValueError(how)
    return f"attempt {ctx.attempt}"


@mcp.tool(task=CONFINED)
async def converse(ctx: Ctx) -> dict[str, Any]:
    """Uses everything a task offers, from its own process."""
    ctx.state["visits"] = ctx.state.get("visits", 0) + 1
    await ctx.report_progress(1, 3, "asking")
    first = await ctx.step("roll", lambda: os.getpid())
    answer = await ctx.elicit("Go on?", Consent)
    again = await ctx.step("double", lambda number: number * 2, 21)
    await ctx.emit("a chunk")
    big = Path(tempfile.mkdtemp()) / "big.bin"
    big.write_bytes(b"x" * 700_000)
    attached = await ctx.attach(big)
    print("printed, which must not reach the line")
    assert answer.action == "accept"
    return {
        "yes": answer.data.yes,
        "steps": [first, again],
        "size": attached.size,
        "visits": ctx.state["visits"],
        "pid": os.getpid(),
    }


@mcp.tool(task=CONFINED)
async def consult(ctx: Ctx) -> list[Any]:
    """Asks all there is to ask at once, attaches a stream, and saves what it has."""

    async def rows() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        yield b"1,2\n"

    form, link, model, roots = await asyncio.gather(
        ctx.elicit("Go on?", Consent),
        ctx.elicit_url("Sign in, please.", "https://bank.example/login"),
        ctx.sample("Tell me a joke."),
        ctx.list_roots(),
    )
    attached = await ctx.attach(rows(), name="rows.csv")
    ctx.state["done"] = True
    await ctx.save()
    return [form.action, link.action, model.model, len(roots.roots), attached.size]


@mcp.tool(task=CONFINED)
def consult_from_thread(ctx: Ctx) -> list[Any]:
    """The same from a plain function, and a step and a chunk."""
    ctx.report_progress(1, 2, "asking")
    answer = anyio.from_thread.run(ctx.elicit, "Go on?", Consent)
    anyio.from_thread.run(ctx.emit, "a chunk")
    rolled = anyio.from_thread.run(ctx.step, "roll", lambda: 4)
    return [answer.action, rolled]


@mcp.tool(task=CONFINED)
async def consult_by_return(ctx: Ctx) -> str | InputRequiredResult:
    """Asks by what it returns, as the SDK's tools may."""
    answer = (ctx.input_responses or {}).get("well")
    if isinstance(answer, ElicitResult):
        return f"{answer.action}, {ctx.request_state}"
    form = ElicitRequestFormParams(message="Well?", requested_schema=Consent.model_json_schema())
    return InputRequiredResult(input_requests={"well": ElicitRequest(params=form)}, request_state="known")


@mcp.tool(task=CONFINED)
async def speak(count: int, ctx: Ctx) -> str:
    """Reports much and quickly."""
    for step in range(1, count + 1):
        await ctx.report_progress(step, count)
    return str(os.getpid())


@mcp.tool(task=CONFINED)
async def remember(journal: str, gate: str, ctx: Ctx) -> str:
    """Adds its attempt to what is kept for its user, and waits."""
    attempts = await ctx.get_state("attempts", [])
    await ctx.set_state("attempts", [*attempts, ctx.attempt])
    await ctx.set_state("gone", True)
    await ctx.delete_state("gone")
    note(journal, "kept", ctx)
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    try:
        await ctx.set_state("large", "x" * 100_000)
    except Exception as exc:
        return f"{type(exc).__name__}: {await ctx.get_state('attempts')} {await ctx.get_state('gone')}"
    return "kept"
