"""`taskmill tasks`, as the command line has it: look at tasks that exist, follow, end and repeat them."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from taskmill.cli import options
from taskmill.cli.errors import UsageFault
from taskmill.cli.logs import LogLevel, configure

if TYPE_CHECKING:
    from taskmill.cli.tasks.source import TaskSource

__all__ = ["app"]

app = typer.Typer(
    help="List, show, watch, cancel and rerun tasks: of a running server (--url), or as operator of a Redis.",
    no_args_is_help=True,
)


@app.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only these states, separated by commas.", metavar="A,B")] = None,
    tool: Annotated[str | None, typer.Option(help="Only tasks of this tool.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only what broke for good and was not run again.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where an earlier list ended.")] = None,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List tasks, newest first: a table, or a line a task with tabs when it goes into a file or pipe."""
    statuses = [word.strip() for word in (status or "").split(",") if word.strip()]
    if dead and statuses:
        raise UsageFault("Say either --dead or --status: how a dead letter ended is part of what it is.")

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_list

        if dead:
            page = await source.dead_letters(tool=tool, limit=limit, cursor=cursor)
        else:
            page = await source.list(statuses=statuses, tool=tool, limit=limit, cursor=cursor)
        print_list(page, as_json=as_json)
        return 0

    _do(work, url, token, redis_url)


@app.command()
def show(
    task_id: options.TaskId,
    history: Annotated[bool, typer.Option("--history", help="Its events too.")] = False,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show everything that is known of a task."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_task

        print_task(await source.show(task_id, history=history), as_json=as_json)
        return 0

    _do(work, url, token, redis_url)


@app.command()
def watch(
    task_id: options.TaskId,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print its events, one JSON a line.")] = False,
) -> None:
    """Follow a task to its end and print its result. Exit code 0 if it completed, else 1; Ctrl-C leaves it running."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.watch import watch_task

        return await watch_task(source, task_id, as_json=as_json)

    _do(work, url, token, redis_url)


@app.command()
def cancel(
    task_ids: options.TaskIds,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Cancel tasks, at once and for good."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_done

        for task_id in task_ids:
            print_done(await source.cancel(task_id), "cancelled", as_json=as_json)
        return 0

    _do(work, url, token, redis_url)


@app.command()
def rerun(
    task_ids: options.TaskIds,
    key: Annotated[
        str | None, typer.Option(help="Said twice with one key, it is still one new task.", show_default="a fresh one")
    ] = None,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Run ended tasks that did not succeed again, with the same arguments; prints the new ids."""
    if key == "":
        raise UsageFault("--key must not be empty.")

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_done

        for task_id in task_ids:
            print_done(await source.rerun(task_id, key=key), "", as_json=as_json)
        return 0

    _do(work, url, token, redis_url)


def _do(
    work: Callable[["TaskSource"], Awaitable[int]], url: str | None, token: str | None, redis_url: str | None
) -> None:
    """Run the command's work and end with its exit code."""
    configure(LogLevel.ERROR)
    from taskmill.cli.tasks.opening import at_source

    if url is not None and redis_url is not None:
        raise UsageFault("Say either --url or --redis-url.")
    sys.exit(at_source(work, url=url, token=token, redis_url=redis_url))
