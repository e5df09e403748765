"""`taskmill audit`: its options."""

from typing import TYPE_CHECKING, Annotated

import typer

from taskmill.cli import options
from taskmill.cli.errors import UsageError
from taskmill.cli.tasks.commands import run_on_source

if TYPE_CHECKING:
    from taskmill.cli.tasks.source import TaskSource

__all__ = ["audit"]


def audit(
    who: Annotated[
        str | None,
        typer.Option(
            help="Only of this one: (the beginning of) a user's digest, an operator's name, or a kind of actor."
        ),
    ] = None,
    what: Annotated[
        str | None, typer.Option(help="Only this action; `task.` is every one that begins so.", metavar="ACTION")
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="Only of this outcome: ok, unchanged, failed, refused.")] = None,
    task: Annotated[str | None, typer.Option(help="Only about this task: its id or its beginning.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only since this time, or this long: 2026-11-30T08:00:00Z, 15m, 7d.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue an earlier list: the cursor that it printed.")] = None,
    follow: Annotated[bool, options.flag("--follow", "Then print what comes, until Ctrl-C.")] = False,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: Annotated[bool, options.flag("--json", "Print records as JSON, one a line.")] = False,
) -> None:
    """Show who did what, and who was refused, newest first; needs TASKMILL_AUDIT=redis on the servers."""
    if follow and cursor is not None:
        raise UsageError("Give either --follow or --cursor.")
    given = {"who": who, "action": what, "outcome": outcome, "task": task, "since": since}
    wanted = {name: value for name, value in given.items() if value is not None}

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.audit.listing import show_records

        return await show_records(source, wanted, limit=limit, cursor=cursor, follow=follow, as_json=as_json)

    run_on_source(work, url, token, redis_url)
