"""What a server that is not ours costs behind Taskmill, beside a direct call: time, and memory of calls that wait.

The bare SDK's column is the server itself, asked directly. Over HTTP every caller is anonymous, so each call has a
session of its own with the server; over pipes one user has one.
"""

import asyncio
import json
import os
import signal
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from bench.cases.case import Case, Values
from bench.contenders import SDK, TASKMILL, Contender
from bench.figures import Figure
from bench.mcp_client import Endpoint, call_tool, get_task, run_client
from bench.plan import Plan
from bench.processes import Program
from bench.stage import Stage

__all__ = ["DETOUR"]

_CALLS = 300
_AT_ONCE = 1000
_SPARE = 50
"""Slots of the worker beside those calls, and calls that warm everything up."""
_POLL = 0.002
_LONGEST = 120.0
_PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


def _measure(contender: Contender, plan: Plan) -> Values:
    calls, at_once = plan.count(_CALLS, least=20), max(20, int(_AT_ONCE * plan.scale))
    with Stage(SDK) as behind:
        upstream = behind.serve()
        if contender is SDK:
            values = run_client(lambda: _held(upstream, calls))
            values |= run_client(lambda: _at_once(upstream, at_once, behind, []))
        else:
            address = f"http://127.0.0.1:{upstream.port}/mcp"
            with Stage(_in_front_of(address)) as stage:
                server = stage.serve(concurrency=at_once + _SPARE)
                values = run_client(lambda: _held(server, calls))
                values |= {"detour_task": run_client(lambda: _as_tasks(server, calls))}
                values |= run_client(lambda: _at_once(server, at_once, behind, stage.programs))
    return values | {"detour_pipes": _over_pipes(contender, calls)}


def _in_front_of(upstream: str) -> Contender:
    more = {"BENCH_UPSTREAM": upstream, "FASTMCP_CHECK_FOR_UPDATES": "off"}
    return replace(TASKMILL, environment={**TASKMILL.environment, **more})


async def _held(server: Endpoint, count: int) -> Values:
    """Milliseconds of a call that is answered when the tool has ended, one after the other."""
    request = call_tool("nop", as_task=False)
    await server.load(request, lines=1, seconds=_LONGEST, most=_SPARE, expect=b"done")
    load = await server.load(request, lines=1, seconds=_LONGEST, most=count, expect=b"done")
    return {"detour_held": load.p50_ms, "detour_held_p99": statistics.quantiles(load.latencies, n=100)[-1] * 1000}


async def _as_tasks(server: Endpoint, count: int) -> float:
    """Milliseconds from a call that becomes a task to the poll that has its result; the median."""
    waits = []
    async with server.line() as line:
        for _ in range(count):
            began = time.perf_counter()
            poll = get_task((await line.result(call_tool("nop")))["taskId"])
            while (await line.result(poll))["status"] != "completed":  # noqa: ASYNC110 (a client that polls)
                await asyncio.sleep(_POLL)
            waits.append(time.perf_counter() - began)
    return statistics.median(waits) * 1000


async def _at_once(server: Endpoint, count: int, behind: Stage, programs: list[Program]) -> Values:
    """Make all calls in one moment; how soon all have reached the tool, and what each that waits takes of memory."""
    before = sum(program.memory() for program in programs)
    async with asyncio.timeout(3 * _LONGEST), AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(server.line()) for _ in range(count)]
        began = time.perf_counter()
        calls = [asyncio.create_task(line.ask(call_tool("hold", as_task=False))) for line in lines]
        while len(behind.notes("held")) < count:
            if ended := [call for call in calls if call.done()]:
                raise RuntimeError(f"a call ended before the tool: {ended[0].result()[-500:]!r}")
            await asyncio.sleep(0.05)
        all_there = time.perf_counter() - began
        gained = sum(program.memory() for program in programs) - before
        behind.open_gate()
        answers = await asyncio.gather(*calls)
    if not all(b"released" in answer for answer in answers):
        raise RuntimeError("a call was not answered with its result")
    values = {"detour_at_once": all_there}
    return values | ({"detour_memory": gained / count / 1000} if programs else {})


def _over_pipes(contender: Contender, count: int) -> float:
    """Milliseconds of a call over standard input and output; the median."""
    with Stage(contender) as stage:
        command = [str(SDK.python), str(SDK.program), "pipes"]
        if contender is not SDK:
            command = [str(contender.python.with_name("taskmill")), "stdio", "--", *command]
        home = stage.directory / "home"
        environment = {"TASKMILL_HOME": str(home), "TASKMILL_REDIS_URL": stage.redis.url}
        environment |= {"BENCH_JOURNAL": str(stage.directory / "journal"), "FASTMCP_CHECK_FOR_UPDATES": "off"}
        program = Program(command, environment=environment, output=stage.directory / "pipes.log", talks=True)
        stage.programs.append(program)
        _result_of(program, 0, "initialize", _PARAMS)
        waits = []
        for number in range(1, count + 6):
            began = time.perf_counter()
            answer = _result_of(program, number, "tools/call", {"name": "nop", "arguments": {}})
            waits.append(time.perf_counter() - began)
            if "done" not in json.dumps(answer):
                raise RuntimeError(f"an answer without a result: {answer}")
        for lock in home.glob("worker-*.lock"):  # the worker outlives its command, which notes its id there
            os.kill(int(lock.read_text()), signal.SIGKILL)
        return statistics.median(waits[5:]) * 1000


def _result_of(program: Program, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(
        program.ask(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
    )
    if message.get("id") != number or "result" not in message:
        raise RuntimeError(f"not the answer to {method}: {message}")
    result: dict[str, Any] = message["result"]
    return result


def _ms(key: str, title: str) -> Figure:
    return Figure(key, title, "ms", more_is_better=False, peers=(SDK.name,), digits=2)


DETOUR = Case(
    "detour",
    (TASKMILL, SDK),
    (
        _ms("detour_held", "a server behind Taskmill, over HTTP: call to its result, held, p50"),
        _ms("detour_held_p99", "the same, p99"),
        Figure(
            "detour_task",
            "the same as a task: call to the poll with its result, p50",
            "ms",
            more_is_better=False,
            digits=2,
        ),
        _ms("detour_pipes", "the same over standard input and output, held, p50"),
        Figure(
            "detour_at_once",
            "1,000 calls at once: until all have reached its tool",
            "s",
            more_is_better=False,
            peers=(SDK.name,),
            digits=2,
        ),
        Figure("detour_memory", "memory of server and worker for each of them", "kB", more_is_better=False),
    ),
    _measure,
)
