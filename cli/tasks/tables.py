"""How tasks are printed: tables at a terminal, lines with tabs in a pipe, or the JSON of the API.

Tool, message and result are texts of others: control characters in them are escaped.
"""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskmill.cli.tasks.source import Json
from taskmill.cli.tasks.task_ids import short_ids
from taskmill.cli.terminal.escaping import printable, printable_json

__all__ = ["print_done", "print_json", "print_list", "print_task", "result_texts"]

_COLUMNS = ("id", "tool", "state", "percent", "created_at", "status_text")
_TITLES = ("id", "tool", "status", "%", "age")
_TOOL_WIDTH = 28
_WIDE = 140
"""Columns of a terminal from which on whole ids leave enough for the rest."""
_STYLES = {
    "completed": "green",
    "tool_error": "red",
    "crashed": "bold red",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "input_required": "magenta",
}
_LISTED_AFTERWARDS = ("result", "error", "questions", "events", "progress", "attempt_history")
_ENDED_WORDS = {None: "runs", "worker_died": "its worker died"}


def print_list(page: Json, *, as_json: bool) -> None:
    """Print the tasks of a list, and on standard error how to get the next ones."""
    if as_json:
        print_json(page)
        return
    if sys.stdout.isatty():
        _print_table(page["tasks"])
    else:
        for task in page["tasks"]:
            print("\t".join(_cell({**task, "state": state_word(task)}[name]) for name in _COLUMNS))
    if page.get("unreachable"):
        sys.stdout.flush()
        missing = printable(", ".join(page["unreachable"]))
        print(f"taskmill: Left out, because its Redis does not answer: the tasks of {missing}", file=sys.stderr)
    if page["next_cursor"] is not None:
        sys.stdout.flush()
        print(f"taskmill: There are more: --cursor {printable(page['next_cursor'])}", file=sys.stderr)


def print_task(task: Json, *, as_json: bool) -> None:
    """Print one task: one line a field, then its error, questions, events and result."""
    if as_json:
        print_json(task)
        return
    facts = [
        (name, _cell(value))
        for name, value in task.items()
        if name not in _LISTED_AFTERWARDS and value not in (None, 0)
    ]
    if task["error"] is not None:
        facts.append(("error", _cell(f"{task['error'].get('message')} ({task['error'].get('code')})")))
    facts += [("question", f"{_cell(key)}: {_cell(_question(request))}") for key, request in task["questions"].items()]
    facts += [("event", _event(event)) for event in task.get("events", ())]
    for attempt in task.get("attempt_history", ()):
        facts += _attempt_facts(attempt, lines=sys.stdout.isatty())
    if sys.stdout.isatty():
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in facts:
            table.add_row(name.replace("_", " "), Text(value))
        Console(highlight=False).print(table)
    else:
        for name, value in facts:
            print(f"{name}\t{value}")
    for text in result_texts(task):
        _print_result(text)


def _print_result(text: str) -> None:
    """A text of a result, so that no line of it can pass for a field of the task."""
    if sys.stdout.isatty():
        print("\n".join(f"  {line}" for line in printable(text, lines=True).split("\n")))
    else:
        print(f"result\t{printable(text)}")


def print_done(task: Json, word: str, *, as_json: bool) -> None:
    """Print one line for a changed task: its id, and in a terminal the word."""
    if as_json:
        print(json.dumps(task), flush=True)
    else:
        print(" ".join(filter(None, [printable(task["id"]), word if sys.stdout.isatty() else ""])), flush=True)


def print_json(value: Json) -> None:
    """Print one JSON document for programs, with the API's field names."""
    print(json.dumps(value, indent=2), flush=True)  # in ASCII: no control characters reach the terminal


def result_texts(task: Json) -> Iterable[str]:
    """The texts of a tool's result."""
    result = task["result"] or {}
    texts = [str(part.get("text", "")) for part in result.get("content", ()) if part.get("type") == "text"]
    if not texts and result.get("structuredContent") is not None:
        texts = [printable_json(result["structuredContent"])]
    return texts


def state_word(task: Json) -> str:
    """The state; of a completed task that did not succeed, its outcome."""
    outcome = task.get("outcome")
    return str(outcome if outcome in ("tool_error", "crashed") else task["status"])


def _print_table(tasks: list[Json]) -> None:
    """A table as wide as the terminal at most: ids and the last column are cut, the others are always whole."""
    console = Console(highlight=False)
    ids = [task["id"] for task in tasks]
    shown_ids = ids if console.width >= _WIDE else short_ids(ids)
    rows = [
        (
            Text(_cell(shown_id)),
            _cut(Text(_cell(task["tool"])), _TOOL_WIDTH),
            Text(_cell(state_word(task)), _STYLES.get(state_word(task), "")),
            Text(_cell(task["percent"])),
            Text(_age(task["created_at"])),
        )
        for shown_id, task in zip(shown_ids, tasks, strict=True)
    ]
    widths = [max(len(name), *(row[column].cell_len for row in rows), 0) for column, name in enumerate(_TITLES)]
    left = console.width - sum(widths) - len(widths)
    table = Table(box=None, pad_edge=False)
    for name, width in zip(_TITLES, widths, strict=True):
        table.add_column(name, no_wrap=True, min_width=width, justify="right" if name in ("%", "age") else "left")
    table.add_column("", no_wrap=True)
    for row, task in zip(rows, tasks, strict=True):
        table.add_row(*row, _cut(Text(_cell(task["status_text"])), max(left, 0)))
    console.print(table)


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _age(since: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))


def _question(request: Json) -> str:
    params = request.get("params")
    return str(params.get("message", "")) if isinstance(params, dict) else str(request.get("method"))


def _attempt_facts(attempt: Json, *, lines: bool) -> list[tuple[str, str]]:
    """An attempt in one line, and the traceback of its error, with its lines or all in one."""
    error, seconds = attempt["error"], attempt["seconds"]
    words = [
        attempt["attempt"],
        attempt["started_at"],
        attempt["worker"],
        _ENDED_WORDS.get(attempt["ended"], attempt["ended"]),
        None if seconds is None else f"after {seconds:g} s",
    ]
    if error is not None:
        words += [f"{error['type']}: {error['text']}" if error["type"] else error["text"]]
        words += [f"(reference {error['reference']})" if error["reference"] else None]
    facts = [("attempt", " ".join(_cell(word) for word in words if word is not None))]
    if error is not None and error["traceback"]:
        facts.append(("traceback", printable(error["traceback"].rstrip("\n"), lines=lines)))
    return facts


def _event(event: Json) -> str:
    facts = " ".join(f"{name}={_cell(value)}" for name, value in event["facts"].items() if value is not None)
    return f"{event['event']} {event['at']} {_cell(event['move'])} {facts}".rstrip()
