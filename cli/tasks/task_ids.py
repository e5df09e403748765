"""Ids of tasks as people give them: whole, or the beginning of one, as the table of tasks shows it."""

from collections.abc import Sequence

from taskmill.cli.errors import CommandFailed, Failure, UsageError
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.terminal.escaping import printable

__all__ = ["SHORTEST_PREFIX", "full_id", "full_ids", "is_whole", "short_ids"]

SHORTEST_PREFIX = 4
"""Characters of an id that a person must give at least: a slip of the finger must not cancel a task."""
_SHOWN_PREFIX = 8
"""Characters that a table shows, unless more are needed to tell two ids apart."""
_WHOLE = 43
"""Characters of a whole id, without the name of a shard behind it."""
_PAGE = 1000
_MOST_TASKS = 50_000
"""How many tasks are looked through, newest first."""
_MOST_NAMED = 10


async def full_ids(source: TaskSource, given: Sequence[str]) -> list[str]:
    """The whole ids, in the given order; all are known to be clear before anything is done to the first."""
    return [await full_id(source, one) for one in given]


async def full_id(source: TaskSource, given: str) -> str:
    """The whole id of the one task whose id begins with `given`; `given` itself if there is none.

    Raises:
        UsageError: it is too short, or several tasks have such an id: the message lists them.
        CommandFailed: it is no whole id, and the server does not list tasks to this caller.
    """
    if is_whole(given):
        return given
    if len(given) < SHORTEST_PREFIX:
        raise UsageError(f"Give at least the first {SHORTEST_PREFIX} characters of the task's id, not {given!r}.")
    try:
        found = await _tasks_with(source, given)
    except CommandFailed as exc:
        text = f"{given!r} is no whole id, and the tasks cannot be listed to find it: {exc.failure.message}"
        raise CommandFailed(Failure(text, exc.failure.code)) from exc
    if len(found) > 1:
        raise UsageError(f"{len(found)} tasks have an id that begins with {given!r}:{_lines(found)}")
    return str(found[0]["id"]) if found else given


def is_whole(given: str) -> bool:
    """Whether it is as long as an id; one of a task that a shard has is longer."""
    return len(given) >= _WHOLE


def short_ids(ids: Sequence[str]) -> list[str]:
    """The shortest beginnings of one length that tell these ids apart."""
    length = _SHOWN_PREFIX
    while len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return [one[:length] for one in ids]


async def _tasks_with(source: TaskSource, prefix: str) -> list[Json]:
    found: list[Json] = []
    cursor: str | None = None
    for _ in range(_MOST_TASKS // _PAGE):
        page = await source.list({}, limit=_PAGE, cursor=cursor)
        found += [task for task in page["tasks"] if task["id"].startswith(prefix)]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def _lines(tasks: list[Json]) -> str:
    rows = [f"{task['id']}  {task['tool']}  {task['status']}" for task in tasks[:_MOST_NAMED]]
    more = len(tasks) - len(rows)
    rows += [f"and {more} more"] if more else []
    return "".join(f"\n    {printable(row)}" for row in rows)
