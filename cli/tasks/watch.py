"""`taskmill tasks watch`: follows a task event by event, to its end."""

import asyncio
import json
import sys

from taskmill.cli.errors import Failure, print_failure
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.tasks.tables import result_texts
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import InterruptHandler
from taskmill.cli.terminal.progress import display_for
from taskmill.engine.record import Progress

__all__ = ["watch_task"]

_WORDS = {"pending": "queued", "running": "running", "input_required": "waiting for an answer"}
_TERMINAL = frozenset({"completed", "failed", "cancelled"})
_EXIT_CODES = {"succeeded": 0, "tool_error": 1, "crashed": 3, "failed": 4, "cancelled": 5}
"""By outcome."""


async def watch_task(source: TaskSource, task_id: str, *, as_json: bool) -> int:
    """Follow the task; returns the exit code of its outcome. Ctrl-C ends the command, not the task.

    Raises:
        TaskmillError: there is no such task, or it cannot be read.
    """
    interrupts = InterruptHandler()
    try:
        task = await source.show(task_id)
        await (_print_events(source, task_id) if as_json else _follow(source, task))
        return _report_end(await source.show(task_id), as_json=as_json)
    except asyncio.CancelledError:
        if interrupts.ended_by_signal is None:
            raise
        print("taskmill: The task continues.", file=sys.stderr)
        return 128 + interrupts.ended_by_signal


async def _print_events(source: TaskSource, task_id: str) -> None:
    async for event in source.events(task_id, after=0):
        print(json.dumps(event), flush=True)


async def _follow(source: TaskSource, task: Json) -> None:
    if task["status"] in _TERMINAL:
        return
    display = display_for(task["tool"])
    try:
        display.show(_state_text(task))
        async for event in source.events(task["id"], after=task["last_event"]):
            text = _event_text(event)
            if text and event["status"] not in _TERMINAL:
                display.show(text)
    finally:
        display.close()


def _state_text(task: Json) -> str:
    percent = task["percent"]
    text = str(task["status_text"])
    # The bar reads the percentage from the end of the text; a queued task may still have that of its last attempt.
    return f"{text} ({percent}%)" if percent is not None and not text.endswith("%)") else text


def _event_text(event: Json) -> str:
    facts = event["facts"]
    if event["move"] == "progress":
        percent = Progress.of_facts(facts).percent
        text = facts.get("message") or f"{facts.get('done') or 0:g} done"
        return text if percent is None else f"{text} ({percent}%)"
    return _WORDS.get(event["status"] or "", "")


def _report_end(task: Json, *, as_json: bool) -> int:
    code = _EXIT_CODES[task["outcome"]]
    if as_json:
        return code
    if code:
        print_failure(Failure("\n".join(result_texts(task)) or f"The task {_failure_text(task)}", code))
    else:
        for text in result_texts(task):
            print(printable(text, lines=True))
    return code


def _failure_text(task: Json) -> str:
    error = task["error"] or {}
    return f"failed: {error.get('message', task['status_text'])}" if task["status"] == "failed" else "was cancelled."
