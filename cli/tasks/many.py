"""`taskmill tasks cancel|rerun --where`: counts the tasks, asks the person, then does it, some at a time."""

import json
import sys
from collections.abc import Sequence

from taskmill.cli.errors import UsageError
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.tasks.where import where_of
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import is_interactive, read_line

__all__ = ["is_about_many", "run_on_many"]

_DONE = {"cancel": "cancelled", "rerun": "run again"}
_MOST_SHOWN = 10
"""Tasks that could not be cancelled or repeated, of each request, that are shown with the reason."""


def is_about_many(task_ids: Sequence[str] | None, where: Sequence[str] | None, *, everything: bool) -> bool:
    """Whether the tasks are given by a filter, and not by their ids.

    Raises:
        UsageError: they are given in both ways, or in neither.
    """
    if task_ids and (where or everything):
        raise UsageError("Give either ids or --where.")
    if where and everything:
        raise UsageError("Give either --where or --all.")
    if not task_ids and not where and not everything:
        raise UsageError("Name tasks by ID, by --where KEY=VALUE, or all of them by --all.")
    return not task_ids


async def run_on_many(
    source: TaskSource, action: str, words: Sequence[str], *, everything: bool, yes: bool, as_json: bool
) -> int:
    """Cancel or repeat the tasks; the exit code, 1 if it could not be done to some or the person answered no.

    Raises:
        UsageError: it would have to be confirmed, and there is no terminal.
    """
    counted = await source.count_for_bulk(action, where_of(words), every=everything)
    count = counted["count"]
    text = f"{count} task{'' if count == 1 else 's'} to {action}"
    if count == 0:
        _print_total({"action": action, "done": 0, "failed": 0}, as_json=as_json)
        return 0
    if not yes:
        if not is_interactive():
            raise UsageError(f"There are {text}. Give --yes to do it without a question.")
        answer = await read_line(f"There are {text}. Go on? [y/N] ")
        if (answer or "").strip().lower() not in ("y", "yes"):
            print("taskmill: Nothing was done.", file=sys.stderr)
            return 1
    done = failed = 0
    token: str | None = counted["token"]
    while token is not None:
        part: Json = await source.run_bulk(token)
        done, failed, token = done + part["done"], failed + len(part["failed"]), part["token"]
        for one in part["failed"][:_MOST_SHOWN]:
            print(f"taskmill: {printable(one['id'])}: {printable(one['message'])}", file=sys.stderr)
    _print_total({"action": action, "done": done, "failed": failed}, as_json=as_json)
    return 1 if failed else 0


def _print_total(total: Json, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(total), flush=True)
        return
    failed = f", {total['failed']} not" if total["failed"] else ""
    print(f"{total['done']} {_DONE[total['action']]}{failed}", flush=True)
