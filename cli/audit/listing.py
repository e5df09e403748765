"""Prints records of the audit trail: a line each, with tabs in a pipe; every text of others is escaped."""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping

from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import InterruptHandler

__all__ = ["show_records"]

_MOST = 500
_EVERY = 1.0
"""Seconds between two looks of `--follow`."""
_WIDTHS = (24, 16, 9)
_SHORT = 12
_DIGEST = 64


async def show_records(
    source: TaskSource, wanted: Mapping[str, str], *, limit: int, cursor: str | None, follow: bool, as_json: bool
) -> int:
    """Print the records that are wanted, newest first; with `follow` oldest first, and then what comes, until Ctrl-C.

    Raises:
        TaskmillError: the trail cannot be read; the words say why.
    """
    records: list[Json] = []
    while len(records) < limit:
        page = await source.audit(wanted, limit=min(_MOST, limit - len(records)), cursor=cursor)
        records += page["records"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    _print(reversed(records) if follow else records, as_json=as_json)
    if follow:
        return await _follow(source, wanted, records[0]["position"] if records else "0", as_json=as_json)
    if cursor is not None:
        sys.stdout.flush()
        print(f"taskmill: There are more: --cursor {printable(cursor)}", file=sys.stderr)
    return 0


async def _follow(source: TaskSource, wanted: Mapping[str, str], position: str, *, as_json: bool) -> int:
    interrupts = InterruptHandler()
    try:
        while True:
            page = await source.audit(wanted, limit=_MOST, after=position)
            _print(page["records"], as_json=as_json)
            position = page["next_cursor"] or position
            if len(page["records"]) < _MOST:
                await asyncio.sleep(_EVERY)
    except asyncio.CancelledError:
        if interrupts.ended_by_signal is None:
            raise
        return 0


def _print(records: Iterable[Json], *, as_json: bool) -> None:
    for entry in records:
        print(json.dumps(entry) if as_json else _line(entry), flush=True)


def _line(entry: Json) -> str:
    """Time, action, outcome, who, from where, and what it was done to."""
    outcome = entry["outcome"] if not entry["reason"] else f"{entry['outcome']}:{entry['reason']}"
    things = [f"{name}={entry[name]}" for name in ("task", "tool", "target") if entry[name]]
    if entry["count"] > 1:
        things.append(f"x{entry['count']}")
    cells = [entry["time"], entry["action"], outcome, _who(entry), entry["address"] or "-", " ".join(things)]
    shown = [printable(str(cell)) for cell in cells]
    if not sys.stdout.isatty():
        return "\t".join(shown)
    return "  ".join(
        [*(cell.ljust(width) for cell, width in zip(shown, _WIDTHS, strict=False)), *shown[len(_WIDTHS) :]]
    )


def _who(entry: Json) -> str:
    named = entry["subject"] or entry["who"]
    if sys.stdout.isatty() and named and len(named) == _DIGEST:
        named = named[:_SHORT]
    return f"{entry['actor']}:{named}" if named else str(entry["actor"])
