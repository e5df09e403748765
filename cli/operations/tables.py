"""How queues, tools and workers are printed: tables at a terminal, lines with tabs in a pipe, or the JSON of the API.

Names, reasons and people are texts of others: control characters in them are escaped.
"""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskmill.cli.tasks.source import Json
from taskmill.cli.terminal.escaping import printable

__all__ = ["print_changed", "print_rows"]

_COLUMNS = {
    "queues": ("name", "app", "waiting", "held", "open", "workers", "slots", "busy", "paused"),
    "tools": ("name", "app", "queue", "workers", "paused"),
    "webhooks": ("id", "tool", "outcome", "ended_at", "state", "tries", "next_at", "error"),
    "schedules": ("name", "app", "schedule", "timezone", "next_at", "last_at", "last_outcome", "paused"),
    "workers": ("name", "queues", "state", "running", "slots", "version", "memory", "since", "tasks"),
}
_MIB = 1024 * 1024


def print_rows(what: str, rows: Sequence[Json], *, as_json: bool) -> None:
    """Print a list of `queues`, `tools`, `schedules`, `workers` or `webhooks`."""
    if as_json:
        print(json.dumps({what: list(rows)}, indent=2), flush=True)
        return
    columns = _COLUMNS[what]
    cells = [[_cell(name, row[name], row) for name in columns] for row in rows]
    if not sys.stdout.isatty():
        for line in cells:
            print("\t".join(line), flush=True)
        return
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell, "yellow" if at == len(line) - 1 else "") for at, cell in enumerate(line)))
    Console(highlight=False).print(table)


def print_changed(shown: Json, word: str, *, as_json: bool) -> None:
    """Print one line for what was changed: its name, and in a terminal the word."""
    if as_json:
        print(json.dumps(shown), flush=True)
    else:
        print(" ".join(filter(None, [printable(shown["name"]), word if sys.stdout.isatty() else ""])), flush=True)


def _cell(name: str, value: object, row: Json) -> str:
    match name, value:
        case _, None:
            return ""
        case "paused", dict():
            return printable(f"by {value['by']} at {value['at']}{_why(value)}")
        case "state", str() if row.get("drained"):
            return printable(f"{value} by {row['drained']['by']}{_why(row['drained'])}")
        case "memory", int():
            return f"{value / _MIB:.0f} MiB"
        case "tasks", list():
            return printable(", ".join(f"{task['tool']} {task['id'][:8]}" for task in value))
        case "queues", list():
            return printable(",".join(value))
        case "since", str():
            return _age(value)
        case _:
            return printable(str(value))


def _why(order: Json) -> str:
    return f": {order['reason']}" if order["reason"] else ""


def _age(since: str) -> str:
    """The time itself in a pipe, and how long ago it was at a terminal."""
    if not sys.stdout.isatty():
        return since
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"
