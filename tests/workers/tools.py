"""The server of these tests: one tool for each way in which a task can behave. No test and no waiting for tests here.

A tool that tells of itself takes `journal`, a file outside Redis, and writes one line there for each thing it does:
what, task id, attempt, fence, process id, monotonic seconds (the same clock in every process of one machine).
"""

import asyncio
import json
import mmap
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.from_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from tenacity import wait_fixed

from taskmill.server import Context, Retry, TaskConfig, TaskServer

Ctx = Context[Any, Any]


class OutOfOrder(BaseException):
    """What a library that knows no better may raise: neither an Exception nor one of the interpreter's own."""


EXITS: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "OutOfOrder": OutOfOrder,
}


class Consent(BaseModel):
    yes: bool


class Other(BaseModel):
    text: str


@asynccontextmanager
async def lifespan(_server: TaskServer[Any]) -> AsyncIterator[dict[str, str]]:
    """Says when it is entered and left, in a file that the environment names."""
    told = os.environ.get("TEST_LIFESPAN")
    if told:
        append(told, ["entered", os.getpid()])
    try:
        yield {"made_in": str(os.getpid())}
    finally:
        if told:
            append(told, ["left", os.getpid()])


mcp: TaskServer[Any] = TaskServer("Workers", lifespan=lifespan)


def append(path: str, line: list[Any]) -> None:
    """One line, in one write."""
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def note(journal: str, what: str, ctx: Ctx) -> None:
    append(journal, [what, ctx.task_id, ctx.attempt, ctx.fence, os.getpid(), time.monotonic()])


def gate_of(gates: list[str], ctx: Ctx) -> Path:
    """The gate of this attempt: the first for attempt 1, ..., the last for all that follow."""
    return Path(gates[min(ctx.attempt, len(gates)) - 1])


async def passed(gate: Path) -> None:
    while not gate.exists():
        await asyncio.sleep(0.02)


@mcp.tool(task=True)
async def quick(journal: str, ctx: Ctx) -> str:
    """Ends at once."""
    note(journal, "start", ctx)
    return "done"


@mcp.tool(task=True)
async def nap(journal: str, seconds: float, ctx: Ctx) -> str:
    """Takes a little while."""
    note(journal, "start", ctx)
    await ctx.report_progress(ctx.attempt)
    await asyncio.sleep(seconds)
    return "rested"


@mcp.tool(task=True)
async def walk(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Runs until the gate of its attempt is there; says when it is cancelled."""
    note(journal, "start", ctx)
    try:
        await passed(gate_of(gates, ctx))
    except asyncio.CancelledError:
        note(journal, "cancelled", ctx)
        raise
    note(journal, "finish", ctx)
    return f"fence {ctx.fence}"


@mcp.tool(task=True)
async def furnish(journal: str, gates: list[str], ctx: Ctx) -> list[Any]:
    """Emits, and attaches a file whose second half waits for the gate."""

    async def halves() -> AsyncIterator[bytes]:
        yield b"1" * 300_000
        note(journal, "half", ctx)
        await passed(gate_of(gates, ctx))
        yield b"2" * 300_000

    await ctx.emit(f"attempt {ctx.attempt}")
    return [f"fence {ctx.fence}", await ctx.attach(halves(), name=f"{ctx.attempt}.bin")]


@mcp.tool(task=True)
def march(journal: str, gates: list[str], ctx: Ctx) -> str:
    """`walk` as a plain function, which has to look whether it is cancelled."""
    note(journal, "start", ctx)
    while not gate_of(gates, ctx).exists():
        if ctx.cancelled:
            note(journal, "cancelled", ctx)
            return "cancelled"
        time.sleep(0.02)
    note(journal, "finish", ctx)
    return f"fence {ctx.fence}"


@mcp.tool(task=True)
async def block(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Holds up the event loop until its gate is there, then has a last word of progress."""
    note(journal, "start", ctx)
    while not gate_of(gates, ctx).exists():
        time.sleep(0.005)  # noqa: ASYNC251 (blocking the loop is what it is for)
    await ctx.report_progress(ctx.attempt, 100, f"word of attempt {ctx.attempt}")
    note(journal, "finish", ctx)
    return f"fence {ctx.fence}"


@mcp.tool(task=True)
async def nudge(journal: str, seconds: float, ctx: Ctx) -> str:
    """Lets `nudged` end, and blocks the event loop in each of the next few rounds, in which its ending is settled."""
    note(journal, "start", ctx)
    handed_over.set()
    for _ in range(5):
        await asyncio.sleep(0)
        time.sleep(seconds)  # noqa: ASYNC251 (blocking the loop is what it is for)
    return "nudged"


@mcp.tool(task=True)
async def nudged(journal: str, ctx: Ctx) -> str:
    """Ends when `nudge`, in the same process, says so."""
    note(journal, "start", ctx)
    await handed_over.wait()
    note(journal, "finish", ctx)
    return f"fence {ctx.fence}"


handed_over = asyncio.Event()


@mcp.tool(task=True)
async def die(journal: str, lives: int, ctx: Ctx) -> str:
    """Takes its worker with it in the first attempts."""
    note(journal, "start", ctx)
    if ctx.attempt <= lives:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@mcp.tool(task=True)
async def leave(how: str) -> str:
    """Tries to end the process."""
    raise EXITS[how]


@mcp.tool(task=True)
def leave_thread(how: str) -> str:
    """Tries to end the process from a thread."""
    raise EXITS[how]


@mcp.tool(task=True)
async def leave_behind(how: str, awaited: bool) -> str:
    """Starts a task of its own that tries to end the process."""

    async def background() -> None:
        raise EXITS[how]

    task = asyncio.create_task(background())
    if awaited:
        await task
    await asyncio.wait([task])
    return "the other one left"


@mcp.tool(task=True)
async def leave_group() -> str:
    """Two tasks in a group, of which one tries to end the process."""

    async def leaves() -> None:
        raise SystemExit

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())
        group.create_task(leaves())
    return "never"


@mcp.tool(task=True)
async def crash(secret: str) -> str:
    """Raises what nobody outside must read."""
    raise RuntimeError(f"{secret} in the exception")


@mcp.tool(task=True)
async def echo(text: str) -> str:
    """Returns its argument."""
    return text


@mcp.tool(task=True)
async def half() -> str:
    """Returns half a character."""
    return "\ud83d"


@mcp.tool(task=TaskConfig(retries=2, backoff=0.2))
async def flaky(journal: str, failures: int, ctx: Ctx) -> str:
    """Fails at first."""
    note(journal, "start", ctx)
    if ctx.attempt <= failures:
        raise ValueError(f"failure {ctx.attempt}")
    return f"attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(retries=3, backoff=0))
async def refuse(journal: str, how: str, ctx: Ctx) -> str:
    """Answers with an error on purpose."""
    note(journal, "start", ctx)
    if how == "ToolError":
        raise ToolError("No such report.")
    raise MCPError(-32050, "Come back later.", {"after": 5})


@mcp.tool(task=True)
async def mule(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Ignores that it is cancelled, and has a last word."""
    note(journal, "start", ctx)
    while not gate_of(gates, ctx).exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note(journal, "cancelled", ctx)
    await ctx.report_progress(1, 1, "a word after the end")
    note(journal, "finish", ctx)
    return "too late"


@mcp.tool(task=TaskConfig(timeout=0.3))
async def stubborn(journal: str, gates: list[str], ctx: Ctx) -> str:
    """`mule` with a time limit."""
    return await mule(journal, gates, ctx)


@mcp.tool(task=TaskConfig(timeout=timedelta(seconds=1), retries=1, backoff=0.1))
async def slow_start(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Takes too long unless the gate of its attempt is there."""
    note(journal, "start", ctx)
    try:
        await passed(gate_of(gates, ctx))
    except asyncio.CancelledError:
        note(journal, "cancelled", ctx)
        raise
    return f"attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(timeout=60))
async def own_timeout() -> str:
    """Runs into a time limit of its own."""
    raise TimeoutError


@mcp.tool(task=TaskConfig(timeout=0.3))
def slow_thread(journal: str, ctx: Ctx) -> str:
    """A plain function that takes too long, until it sees that it should stop."""
    note(journal, "start", ctx)
    while not ctx.cancelled:
        time.sleep(0.01)
    note(journal, "cancelled", ctx)
    return "too late"


@mcp.tool(task=True)
async def count(journal: str, n: int, gates: list[str], ctx: Ctx) -> float:
    """Reports progress as fast as it can; returns the seconds that took."""
    note(journal, "start", ctx)
    began = time.monotonic()
    for i in range(1, n + 1):
        await ctx.report_progress(i, n, f"step {i}")
    took = time.monotonic() - began
    await passed(gate_of(gates, ctx))
    return took


@mcp.tool(task=True)
def count_thread(journal: str, n: int, ctx: Ctx) -> float:
    """`count` from a thread."""
    note(journal, "start", ctx)
    began = time.monotonic()
    for i in range(1, n + 1):
        ctx.report_progress(i, n, f"step {i}")
    return time.monotonic() - began


@mcp.tool(task=True)
async def tick(journal: str, seconds: float, ctx: Ctx) -> int:
    """Reports something new every few milliseconds for a while; how often it did."""
    note(journal, "start", ctx)
    ends, said = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        said += 1
        ctx.report_progress(said)
        await asyncio.sleep(0.002)
    return said


@mcp.tool(task=TaskConfig(retries=1, backoff=60))
async def say_and_crash(ctx: Ctx) -> str:
    """Has a word right before it crashes."""
    for step in range(4):
        await ctx.report_progress(step, 7, "about to crash")
    raise RuntimeError("here")


@mcp.tool(task=True)
async def babble(ctx: Ctx) -> str:
    """Reports nonsense; the name of the error that the worst of it raises."""
    try:
        ctx.report_progress("half")  # type: ignore[arg-type]  # that is the nonsense
    except (TypeError, ValueError) as exc:
        refused = type(exc).__name__
    await ctx.report_progress(float("nan"), float("inf"), "\ud83d \x00\x1b[2J\r\n")
    await asyncio.sleep(0.1)
    await ctx.report_progress(float("-inf"), None, "long " * 1000)
    return refused


@mcp.tool(task=True)
async def ask_two(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Asks two questions at once, and stays a little."""
    note(journal, "start", ctx)
    one, two = await asyncio.gather(ctx.elicit("One?", Consent), ctx.elicit("Two?", Consent))
    note(journal, "answered", ctx)
    await passed(gate_of(gates, ctx))
    return f"{one.action} {two.action} at attempt {ctx.attempt}"


@mcp.tool(task=True)
async def ask_after(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Asks once the gate is there."""
    note(journal, "start", ctx)
    await passed(gate_of(gates, ctx))
    note(journal, "asking", ctx)
    return (await ctx.elicit("And now?", Consent)).action


@mcp.tool(task=TaskConfig(park_after=0.1))
async def ask_and_leave(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Asks, and is parked soon."""
    note(journal, "start", ctx)
    try:
        answer = await ctx.elicit("Well?", Consent)
    finally:
        note(journal, "unwound", ctx)
    note(journal, "answered", ctx)
    await passed(gate_of(gates, ctx))
    return f"{answer.action} at attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(park_after=None, timeout=1))
async def ask_and_stay_limited(journal: str, gates: list[str], ctx: Ctx) -> str:
    """`ask_and_stay`, with a second to work."""
    return await ask_and_stay(journal, gates, ctx)


@mcp.tool(task=TaskConfig(park_after=None))
async def ask_and_stay(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Asks, and is never parked."""
    note(journal, "start", ctx)
    answer = await ctx.elicit("Well?", Consent)
    note(journal, "answered", ctx)
    await passed(gate_of(gates, ctx))
    note(journal, "finish", ctx)
    return f"{answer.action} at attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(park_after=0.1))
async def ask_and_work(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Asks, and goes on with something else beside it."""

    async def work() -> int:
        rounds = 0
        while not gate_of(gates, ctx).exists():
            rounds += 1
            await ctx.report_progress(rounds)
            await asyncio.sleep(0.02)
        return rounds

    note(journal, "start", ctx)
    answer, _ = await asyncio.gather(ctx.elicit("Well?", Consent), work())
    return f"{answer.action} at attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(park_after=0.1))
def ask_from_thread(journal: str, ctx: Ctx) -> str:
    """A plain function that asks."""
    note(journal, "start", ctx)
    try:
        answer = anyio.from_thread.run(ctx.elicit, "Well?", Consent)
    finally:
        note(journal, "unwound", ctx)
    return f"{answer.action} at attempt {ctx.attempt}"


@mcp.tool(task=True)
async def ask_otherwise(journal: str, ctx: Ctx) -> str:
    """Asks something else the second time."""
    note(journal, "start", ctx)
    if ctx.attempt == 1:
        await ctx.elicit("First version?", Consent)
    else:
        await ctx.elicit("Second version?", Other)
    return "answered"


@mcp.tool(task=TaskConfig(retries=1, backoff=0))
async def two_steps(journal: str, gates: list[str], how: str, ctx: Ctx) -> dict[str, Any]:
    """Two steps, one async and one plain, with something in between and behind them that may go wrong once."""

    async def first(left: int, *, right: int) -> tuple[int, int]:
        note(journal, "first", ctx)
        return left, right

    def second() -> str:
        note(journal, "second", ctx)
        return "in a thread" if threading.current_thread() is not threading.main_thread() else "on the loop"

    note(journal, "start", ctx)
    pair = await ctx.step("first", first, ctx.attempt, right=2)
    ctx.state["seen"] = [*ctx.state.get("seen", []), ctx.attempt]
    where = await ctx.step("second", second)
    note(journal, "between", ctx)
    if how == "crash" and ctx.attempt == 1:
        raise RuntimeError("once")
    await passed(gate_of(gates, ctx))
    return {"pair": pair, "where": where, "state": ctx.state, "attempt": ctx.attempt}


@mcp.tool(task=True)
async def step_behind_gate(journal: str, gates: list[str], ctx: Ctx) -> str:
    """Says that it is about to take its step, and takes it."""

    def effect() -> str:
        note(journal, "effect", ctx)
        return "taken"

    note(journal, "start", ctx)
    await passed(gate_of(gates, ctx))
    note(journal, "ready", ctx)
    return str(await ctx.step("effect", effect))


@mcp.tool(task=TaskConfig(retries=3, backoff=0))
async def bad_step(journal: str, how: str, ctx: Ctx) -> str:
    """Does with steps what cannot work."""
    note(journal, "start", ctx)

    async def value(of: Any) -> Any:
        return of

    async def nested() -> None:
        await ctx.step("inner", value, 1)

    async def asks() -> None:
        await ctx.elicit("Inside?", Consent)

    if how == "not_json":
        await ctx.step("parse", value, {"a set"})
    elif how == "too_large":
        await ctx.step("load", value, "x" * 2_000_000)
    elif how == "nested":
        await ctx.step("outer", nested)
    elif how == "asks":
        await ctx.step("outer", asks)
    elif how == "in_group":
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("parse", value, {"a set"}))
    elif how == "state":
        ctx.state["one"] = object()
        await ctx.save()
    elif how == "big_state":
        ctx.state["one"] = "x" * 100_000
        await ctx.save()
    elif how == "changed":
        await ctx.step("old" if ctx.attempt == 1 else "new", value, 1)
        raise RuntimeError("once")
    return "it worked"


@mcp.tool(task=TaskConfig(retries=1, backoff=0))
async def steps_beside(journal: str, ctx: Ctx) -> list[Any]:
    """Steps and questions side by side, in another order the second time."""

    async def square(number: int) -> int:
        note(journal, f"square {number}", ctx)
        return number * number

    async def later(number: int) -> int:
        for _ in range(3 - number if ctx.attempt == 1 else number):
            await asyncio.sleep(0)
        return int(await ctx.step("square", square, number))

    numbers = await asyncio.gather(*(later(number) for number in range(3)))
    if ctx.attempt == 1:
        raise RuntimeError("once")
    return list(numbers)


@mcp.tool(task=TaskConfig(retries=1, backoff=0))
async def step_that_fails(journal: str, ctx: Ctx) -> list[str]:
    """A step that raises, which the tool survives, and one behind it."""

    async def fails() -> str:
        note(journal, "fails", ctx)
        raise ValueError("no")

    async def works() -> str:
        note(journal, "works", ctx)
        return "worked"

    said = []
    try:
        await ctx.step("fails", fails)
    except ValueError:
        said.append("survived")
    said.append(await ctx.step("works", works))
    if ctx.attempt == 1:
        raise RuntimeError("once")
    return said


async def _sail(journal: str, folder: str, ctx: Ctx) -> list[str]:
    """Three questions and two steps, and a place to stop before, between and behind them."""

    async def stop(number: int) -> None:
        note(journal, f"at {number}", ctx)
        await passed(Path(folder) / f"{ctx.task_id}-{number}")

    async def effect(name: str) -> str:
        note(journal, name, ctx)
        return f"{name} at attempt {ctx.attempt}"

    log = []
    await stop(0)
    log.append((await ctx.elicit("Cast off?", Consent)).action)
    await stop(1)
    log.append(await ctx.step("load", effect, "load"))
    await stop(2)
    log.append((await ctx.elicit("Go on?", Consent)).action)
    await stop(3)
    log.append(await ctx.step("unload", effect, "unload"))
    await stop(4)
    log.append((await ctx.elicit("Moor?", Consent)).action)
    await stop(5)
    return log


@mcp.tool(task=TaskConfig(park_after=None))
async def interrupted(journal: str, folder: str, ctx: Ctx) -> list[str]:
    """Waits for its answers in memory."""
    return await _sail(journal, folder, ctx)


@mcp.tool(task=TaskConfig(park_after=0))
async def interrupted_parked(journal: str, folder: str, ctx: Ctx) -> list[str]:
    """Leaves memory with each question."""
    return await _sail(journal, folder, ctx)


@mcp.tool(task=TaskConfig(park_after=10))
async def ask_and_linger(journal: str, ballast: int, ctx: Ctx) -> str:
    """Asks, with something in memory, and is parked in ten seconds."""
    held = mmap.mmap(-1, ballast)  # no allocator keeps that once it is gone
    held.write(b"x" * ballast)
    note(journal, "start", ctx)
    answer = await ctx.elicit("Well?", Consent)
    return f"{answer.action} with {len(held)}"


@mcp.tool(task=TaskConfig(park_after=0.1))
async def remember(journal: str, gates: list[str], ctx: Ctx) -> dict[str, Any]:
    """Saves its state where it asks, and once by hand."""
    note(journal, "start", ctx)
    ctx.state["starts"] = ctx.state.get("starts", 0) + 1
    await ctx.save()
    await ctx.elicit("Well?", Consent)
    await passed(gate_of(gates, ctx))
    return dict(ctx.state)


@mcp.tool(task=TaskConfig(retries=3, backoff=0, retry_on=ConnectionError))
async def fail_with(journal: str, kinds: list[str], ctx: Ctx) -> str:
    """Fails with one kind of error after the other, then works."""
    note(journal, "start", ctx)
    if ctx.attempt <= len(kinds):
        raise {"ConnectionError": ConnectionError, "ValueError": ValueError, "Retry": Retry}[kinds[ctx.attempt - 1]]
    return f"attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(retries=2, backoff=60))
async def ask_again(journal: str, ctx: Ctx) -> str:
    """Wants to be tried again soon, whatever its policy says."""
    note(journal, "start", ctx)
    if ctx.attempt <= 2:
        raise Retry("not yet", after=0.2)
    return f"attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(retries=2, backoff=wait_fixed(0.1) + wait_fixed(0.2)))
async def fail_with_strategy(journal: str, ctx: Ctx) -> str:
    """Its backoff is tenacity's."""
    note(journal, "start", ctx)
    if ctx.attempt <= 2:
        raise RuntimeError("no")
    return f"attempt {ctx.attempt}"


@mcp.tool(task=TaskConfig(retries=9, backoff=0.5, deadline=3))
async def until_its_deadline(journal: str, how: str, ctx: Ctx) -> str:
    """Does not end in time: it runs on, fails again and again, or waits for an answer."""
    note(journal, "start", ctx)
    if how == "fail":
        raise RuntimeError("no")
    if how == "ask":
        await ctx.elicit("Well?", Consent)
    try:
        await asyncio.Event().wait()
    finally:
        note(journal, "cancelled", ctx)
    return "never"


def breaks(_crash: BaseException) -> bool:
    raise LookupError("the predicate is broken")


@mcp.tool(task=TaskConfig(retries=9, backoff=0, retry_on=breaks))
async def broken_policy(journal: str, ctx: Ctx) -> str:
    """Its policy crashes."""
    note(journal, "start", ctx)
    raise RuntimeError("no")


@mcp.tool(task=True)
async def who_am_i(ctx: Ctx) -> dict[str, Any]:
    """What the context says of the attempt."""
    return {
        "task_id": ctx.task_id,
        "idempotency_key": ctx.idempotency_key,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "cancelled": ctx.cancelled,
        "lifespan": ctx.lifespan,
        "pid": os.getpid(),
        "thread": threading.current_thread() is threading.main_thread(),
    }


@mcp.tool(task=True)
async def sit_in_executor(journal: str, ctx: Ctx) -> str:
    """Waits for ever in a thread of asyncio's own pool."""
    note(journal, "start", ctx)
    await asyncio.to_thread(threading.Event().wait)
    return "never"


@mcp.tool(task=True)
async def nest(depth: int) -> str:
    """Refuses with data that is nested so deep that it cannot be written."""
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    raise MCPError(-32050, "Too deep.", data)
