"""Follows a task that exists to its end, event by event."""

import asyncio
import json
import sys

from taskmill.cli.errors import Failure, show
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.tasks.tables import result_texts
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import CancelPrompt
from taskmill.cli.terminal.progress import display_for
from taskmill.engine.record import Progress

__all__ = ["watch_task"]

_WORDS = {"pending": "queued", "running": "running", "input_required": "waiting for an answer"}
_ENDS = frozenset({"completed", "failed", "cancelled"})


async def watch_task(source: TaskSource, task_id: str, *, as_json: bool) -> int:
    """Follow the task; 0 if it completed without an error of its tool, else 1. Ctrl-C leaves it as it is.

    Raises:
        TaskmillError: there is no such task, or it cannot be looked at.
    """
    attention = CancelPrompt()
    try:
        task = await source.show(task_id)
        await (_print_events(source, task_id) if as_json else _follow(source, task))
        return _ending(await source.show(task_id), as_json=as_json)
    except asyncio.CancelledError:
        if attention.ended_by is None:
            raise
        print("taskmill: The task goes on.", file=sys.stderr)
        return 128 + attention.ended_by


async def _print_events(source: TaskSource, task_id: str) -> None:
    async for event in source.events(task_id, after=0):
        print(json.dumps(event), flush=True)


async def _follow(source: TaskSource, task: Json) -> None:
    if task["status"] in _ENDS:
        return
    display = display_for(task["tool"])
    try:
        display.show(_state(task))
        async for event in source.events(task["id"], after=task["last_event"]):
            words = _words(event)
            if words and event["status"] not in _ENDS:
                display.show(words)
    finally:
        display.close()


def _state(task: Json) -> str:
    percent = task["percent"]
    words = str(task["status_text"])
    # The bar reads the percentage from the end of the words; a queued task may still have that of its last attempt.
    return f"{words} ({percent}%)" if percent is not None and not words.endswith("%)") else words


def _words(event: Json) -> str:
    facts = event["facts"]
    if event["move"] == "progress":
        percent = Progress.of_facts(facts).percent
        words = facts.get("message") or f"{facts.get('done') or 0:g} done"
        return words if percent is None else f"{words} ({percent}%)"
    return _WORDS.get(event["status"] or "", "")


def _ending(task: Json, *, as_json: bool) -> int:
    failed = task["status"] != "completed" or task["reason"] == "tool_error"
    if as_json:
        return int(failed)
    if failed:
        show(Failure("\n".join(result_texts(task)) or f"The task {_how(task)}", 1))
    else:
        for text in result_texts(task):
            print(printable(text, lines=True) if sys.stdout.isatty() else text)
    return int(failed)


def _how(task: Json) -> str:
    error = task["error"] or {}
    return f"failed: {error.get('message', task['status_text'])}" if task["status"] == "failed" else "was cancelled."
