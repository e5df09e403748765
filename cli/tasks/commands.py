"""`taskmill tasks`, as the command line has it: look at tasks that exist, follow, end and repeat them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from taskmill.cli import options
from taskmill.cli.errors import UsageFault, only_cause
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

    _run(work, url, token, redis_url)


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

    _run(work, url, token, redis_url)


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

    _run(work, url, token, redis_url)


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

    _run(work, url, token, redis_url)


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

    _run(work, url, token, redis_url)


def _run(
    work: Callable[["TaskSource"], Awaitable[int]], url: str | None, token: str | None, redis_url: str | None
) -> None:
    """Run the command's work on the tasks of a server, or of a Redis, and end with its exit code."""
    configure(LogLevel.ERROR)
    if url is not None and redis_url is not None:
        raise UsageFault("Give either --url or --redis-url.")
    if url is None:
        sys.exit(_run_on_redis(work, redis_url))
    from taskmill.cli.tasks.http_source import over_http

    sys.exit(asyncio.run(over_http(work, url, token)))


def _run_on_redis(work: Callable[["TaskSource"], Awaitable[int]], redis_url: str | None) -> int:
    """Run the work on the Redis of the command line or the environment, else on an embedded one that is running.

    Raises:
        UsageFault, SettingsError: there is no such Redis.
    """
    from taskmill.store.embedded.user_lock import is_guarded
    from taskmill.store.settings import StoreSettings, read_settings

    settings = read_settings(StoreSettings, redis_url=redis_url)
    if settings.redis_url is None and not is_guarded(settings.home):
        raise UsageFault(
            f"No server is up in {settings.home}. Say where the tasks are: --url http://host:port of a running server, "
            "or --redis-url (TASKMILL_REDIS_URL)."
        )
    from taskmill.cli.settings import redis_for
    from taskmill.cli.tasks.redis_source import over_redis

    with nullcontext(settings) if settings.redis_url else redis_for(settings) as ready, only_cause():
        return asyncio.run(over_redis(work, ready))
