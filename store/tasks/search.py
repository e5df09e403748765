"""Looks for a text in the messages and errors of tasks. They may be sealed, so it is not Redis that finds them.

Two round trips a part of the list: the texts of a thousand tasks, then the tasks whose texts have it. Of texts that are
not sealed, Redis leaves out those that surely lack it: to send and to open all took most of the time.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from taskmill.engine.errors import DecryptionFailed
from taskmill.store.formats.attempt_errors import open_error
from taskmill.store.formats.paging import ENTRIES_READ, Position, Slice
from taskmill.store.formats.sealing import Sealer
from taskmill.store.formats.views import progress_message, slice_of

__all__ = ["count_tasks", "search_slice"]

RunPage = Callable[[list[Any]], Awaitable[Any]]


async def search_slice(
    run: RunPage,
    args: "partial[list[Any]]",
    sealer: Sealer,
    list_owner: str,
    after: tuple[str, str],
    most: int,
    text: str,
) -> Slice:
    """The tasks of a part of the owner's list whose texts have `text`, as `TaskStore.slice` gives them.

    `run`: runs the script `page` with its ARGV, which `args` makes.
    """
    wanted = text.casefold()
    behind, found = await run(args(after, ENTRIES_READ, part="texts", hint=_hint(wanted)))
    named: list[Position] = [(row[1], row[0]) for row in found if any(wanted in one for one in _texts(row, sealer))]
    if len(named) > most:
        named = named[:most]
        behind = named[-1]
    if not named:
        return Slice((), tuple(behind) if behind else None)
    rows = slice_of(await run(args(("", ""), most, named=named)), sealer, list_owner).rows
    return Slice(rows, tuple(behind) if behind else None)


async def count_tasks(run: RunPage, args: "partial[list[Any]]", sealer: Sealer, text: str | None, most: int) -> int:
    """How many tasks of a list are wanted, among the `most` latest."""
    after, count, wanted = ("", ""), 0, (text or "").casefold()
    for _ in range(0, most, ENTRIES_READ):
        part = "entries" if text is None else "texts"
        behind, rows = await run(args(after, ENTRIES_READ, part=part, hint=_hint(wanted)))
        count += sum(text is None or any(wanted in one for one in _texts(row, sealer)) for row in rows)
        if not behind:
            break
        after = behind[0].decode(), behind[1].decode()
    return count


def _hint(wanted: str) -> str:
    """The text as it would stand in stored JSON, in small letters; empty if it could stand there in another form.

    An error is looked through as `type: text`, so a colon may be none that is stored.
    """
    return wanted if wanted.isascii() and wanted.isprintable() and not set(wanted) & set('"\\:') else ""


def _texts(row: Sequence[Any], sealer: Sealer) -> Iterator[str]:
    """What of a task can be found, in small letters. What cannot be opened has no text."""
    stored_id, _score, message, outcome, errors = row
    task_id = stored_id.decode()
    yield (progress_message(sealer, task_id, message.decode(errors="replace")) or "").casefold()
    if outcome:
        try:
            opened = sealer.open(outcome, task_id=task_id, field="result")
        except DecryptionFailed:
            opened = None
        for text in _strings(opened):
            yield text.casefold()
    for i in range(0, len(errors), 2):
        error = open_error(sealer, task_id, int(errors[i]), errors[i + 1])
        yield f"{error.type}: {error.text}\n{error.traceback}".casefold()


def _strings(value: Any) -> Iterator[str]:
    """Every text in a stored outcome; names of fields are none."""
    match value:
        case str():
            yield value
        case dict():
            for one in value.values():
                yield from _strings(one)
        case list():
            for one in value:
                yield from _strings(one)
