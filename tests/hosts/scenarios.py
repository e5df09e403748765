"""What each host is asked to do, and what is right: a long call, a question, a call that its user ends."""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx2

from tests.hosts.run import OPERATOR, Run, Served, Transport, run_host
from tests.support.processes import kill, processes_with, taskmill

__all__ = ["SCENARIOS", "Judgement", "Scenario", "Verdict", "play"]

_GRACE = 60
"""Seconds in which a task must have ended whose host has gone."""


class Verdict(StrEnum):
    """Whether what came of a run is right."""

    RIGHT = "right"
    HOSTS_LIMIT = "host's limit"
    """The host does not do what the scenario takes, which its messages prove, and the server did what is right then."""
    WRONG = "WRONG"


@dataclass(frozen=True)
class Judgement:
    """What came of a run."""

    verdict: Verdict
    words: str
    """What the user of the host would have seen, or what was wrong."""


@dataclass(frozen=True)
class Scenario:
    """Steps for the model, and who judges what came of them."""

    name: str
    steps: Callable[[float, str], list[dict[str, Any]]]
    """By the seconds that the slow tool takes, and a name for the run."""
    judge: Callable[[Run, float, str], Judgement]
    """By the run, the same seconds, and the state of the task that was interrupted, "" if there is none."""
    interrupts: bool = False
    """Whether the host gets Ctrl-C once the tool runs."""


def _judge_long_call(run: Run, seconds: float, _state: str) -> Judgement:
    wanted = f"{int(seconds) * 7} jars"
    seen = run.model.last_words if run.model.turns else run.output
    calls = run.sent("tools/call")
    if run.fault or not calls:
        return Judgement(Verdict.WRONG, run.fault or f"Taskmill got no call: {(seen or run.output)[-300:]!r}")
    if wanted in seen:
        return Judgement(Verdict.RIGHT, f"result in {run.seconds:.0f} s, {calls} call{'s' if calls != 1 else ''}")
    names_the_tool = '"task_id' in seen.replace("\\", "") and "task_wait" in seen
    if names_the_tool and not run.model.turns:
        words = f"it has no model that could follow the hand-off, which it showed after {run.seconds:.0f} s"
        return Judgement(Verdict.HOSTS_LIMIT, words)
    return Judgement(Verdict.WRONG, f"no result: {(seen or run.output)[-300:]!r}")


def _judge_question(run: Run, _seconds: float, _state: str) -> Judgement:
    """A host without a person cancels, declines, or has its model answer: each is right if the tool gets to its end."""
    seen = re.sub(r"[\\\s]", "", run.model.last_words if run.model.turns else run.output)
    found = re.search(r'"action":"(accept|decline|cancel)"', seen)
    if found:
        return Judgement(Verdict.RIGHT, f"answered: {found[1]}")
    is_refused = "didnotdeclaretheelicitationcapability" in seen
    if is_refused and not run.declares("elicitation") and not run.model.turns:
        words = "it has no model, and declares no elicitation; it was refused in words that say so"
        return Judgement(Verdict.HOSTS_LIMIT, words)
    return Judgement(Verdict.WRONG, f"no answer reached the tool: {seen[-300:]!r}")


def _judge_interrupt(run: Run, _seconds: float, state: str) -> Judgement:
    """Ctrl-C in the host: its task must end, if the host lets the server know.

    It does by `notifications/cancelled`, by `tasks/cancel` or the tool task_cancel, or from 2026 on over HTTP by a
    disconnect. Before, a disconnect is a lost connection (transports 2025-11-25), and over stdio a signal is the end of
    the host: the task outlives both.
    """
    told = run.sent("notifications/cancelled") or run.sent("tasks/cancel") or run.calls("task_cancel")
    leaves_as_in_2026 = run.transport == "http" and run.revision >= "2026"
    if state == "running" and run.calls("wait_here") and not told and not leaves_as_in_2026:
        words = "it sends no cancel, and a lost connection is none: the task goes on"
        return Judgement(Verdict.HOSTS_LIMIT, words)
    verdict = Verdict.RIGHT if state == "cancelled" else Verdict.WRONG
    return Judgement(verdict, f"task {state or 'unknown'}, host's exit {run.code}")


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "long call",
            lambda seconds, _: [{"tool": "survey", "args": {"seconds": int(seconds)}, "retry": 2}],
            _judge_long_call,
        ),
        Scenario("question", lambda _, __: [{"tool": "ask_me", "retry": 2}], _judge_question),
        Scenario(
            "interrupt",
            lambda _, name: [{"tool": "wait_here", "args": {"label": f"{name}.task"}}],
            _judge_interrupt,
            interrupts=True,
        ),
    )
}
"""By the name that `scripts/hosts` takes."""


async def play(
    scenario: Scenario,
    host: str,
    program: list[str],
    folder: Path,
    transport: Transport,
    server: Served,
    seconds: float,
) -> tuple[Run, Judgement]:
    """Run a host through a scenario and judge it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = await run_host(
            host,
            program,
            folder,
            transport,
            server,
            scenario.steps(seconds, folder.name),
            within=3 * seconds + 90,
            interrupt_when=_task_file(folder).exists if scenario.interrupts else None,
        )
        state = await _state_after(folder, transport, server) if scenario.interrupts else ""
    finally:
        # The worker and the Redis of a stdio server stay for two minutes.
        kill(processes_with("HOME", str(folder / "home")))
    (folder / "wire.json").write_text(json.dumps(run.records, indent=1, ensure_ascii=False))
    return run, scenario.judge(run, seconds, state)


def _task_file(folder: Path) -> Path:
    """Where the tool `wait_here` leaves its task's id, or how far it is if it knows nothing of tasks."""
    return folder.with_name(f"{folder.name}.task")


async def _state_after(folder: Path, transport: Transport, server: Served) -> str:
    """The last state of what the tool `wait_here` does, once it has ended or the grace is over."""
    address = server.address if transport == "http" else None
    state, deadline = "", time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        named = _task_file(folder)
        state = named.read_text() if named.exists() else ""
        if state and not server.server.is_foreign:
            state = await _state_of(state, folder, address)
        if state in ("completed", "failed", "cancelled"):
            break
        await asyncio.sleep(0.1)
    return state


async def _state_of(task_id: str, folder: Path, address: str | None) -> str:
    """By the server's API, or over the data that `taskmill stdio` keeps in the run's folder."""
    if address is not None:
        async with httpx2.AsyncClient(headers=OPERATOR) as client:
            return str((await client.get(f"{address}/api/tasks/{task_id}")).json().get("status", ""))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TASKMILL_HOME": str(folder / ".taskmill")}
    words = [taskmill(), "tasks", "show", task_id, "--json"]
    done = await asyncio.to_thread(subprocess.run, words, env=env, capture_output=True, text=True, check=False)
    return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else ""
