"""`taskmill tasks`: its commands with their options. They list, show, watch, cancel and rerun tasks that exist."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from taskmill.cli import options
from taskmill.cli.errors import UsageError, unwrap_group
from taskmill.cli.logs import LogLevel, configure

if TYPE_CHECKING:
    from taskmill.cli.tasks.source import TaskSource

__all__ = ["app", "run_on_source"]

app = typer.Typer(
    help="List, show, watch, cancel and rerun tasks: of a running server (--url), or as operator of a Redis.",
    no_args_is_help=True,
)


@app.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only these states, separated by commas.", metavar="A,B")] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help="Only tasks that ended so: succeeded, tool_error, crashed, failed, cancelled.", metavar="A,B"
        ),
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only tasks of this tool.")] = None,
    where: options.Where = None,
    dead: Annotated[
        bool,
        options.flag("--dead", "Only dead letters: tasks that failed for good and were not run again."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue an earlier list: the cursor that it printed.")] = None,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List tasks, newest first: a table in a terminal, else one line for each task, with tabs."""
    from taskmill.cli.tasks.where import where_of

    wanted = where_of(where or (), status=status, outcome=outcome, tool=tool)
    if dead and ("status" in wanted or "outcome" in wanted):
        option = "--status" if "status" in wanted else "--outcome"
        raise UsageError(f"Give either --dead or {option}: dead letters are failed tasks already.")

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_list

        if dead:
            page = await source.dead_letters(wanted, limit=limit, cursor=cursor)
        else:
            page = await source.list(wanted, limit=limit, cursor=cursor)
        print_list(page, as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


@app.command()
def show(
    task_id: options.TaskId,
    history: Annotated[
        bool, options.flag("--history", "Show its events, too; to operators, attempts and errors.")
    ] = False,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show all data of a task."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.tables import print_task
        from taskmill.cli.tasks.task_ids import full_id

        task = await source.show(await full_id(source, task_id), history=history)
        if history and "owner" in task:  # what only an operator is shown
            task["attempt_history"] = await source.attempts(task["id"])
        print_task(task, as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


@app.command()
def watch(
    task_id: options.TaskId,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: Annotated[bool, options.flag("--json", "Print its events, one JSON object a line.")] = False,
) -> None:
    """Follow a task to its end and print its result. Exit code 0 if it succeeded; Ctrl-C leaves it running."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.task_ids import full_id
        from taskmill.cli.tasks.watch import watch_task

        return await watch_task(source, await full_id(source, task_id), as_json=as_json)

    run_on_source(work, url, token, redis_url)


@app.command()
def cancel(
    task_ids: options.SomeTaskIds = None,
    where: options.Where = None,
    everything: options.Everything = False,
    yes: options.Yes = False,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Cancel tasks, at once and for good: those that are named, or all that --where says, after a count."""
    from taskmill.cli.tasks.many import is_about_many, run_on_many

    is_bulk = is_about_many(task_ids, where, everything=everything)

    async def work(source: "TaskSource") -> int:
        if is_bulk:
            return await run_on_many(source, "cancel", where or (), everything=everything, yes=yes, as_json=as_json)
        from taskmill.cli.tasks.tables import print_done
        from taskmill.cli.tasks.task_ids import full_ids

        for task_id in await full_ids(source, task_ids or ()):
            print_done(await source.cancel(task_id), "cancelled", as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


@app.command()
def rerun(
    task_ids: options.SomeTaskIds = None,
    where: options.Where = None,
    everything: options.Everything = False,
    yes: options.Yes = False,
    key: Annotated[
        str | None,
        typer.Option(
            help="Idempotency key: two reruns with the same key make one new task.", show_default="a fresh one"
        ),
    ] = None,
    delay: options.Delay = None,
    not_before: options.NotBefore = None,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Run ended tasks that did not succeed again, with the same arguments; prints the new ids.

    With --where, all that it says and that were not run again yet, after a count.
    """
    from taskmill.cli.tasks.many import is_about_many, run_on_many

    if key == "":
        raise UsageError("--key must not be empty.")
    is_bulk = is_about_many(task_ids, where, everything=everything)
    if is_bulk and key is not None:
        raise UsageError("--key is for tasks that are named: with --where none is run again twice anyway.")
    start = options.start_of(delay, not_before)
    if is_bulk and start:
        raise UsageError("--delay and --not-before are for tasks that are named.")

    async def work(source: "TaskSource") -> int:
        if is_bulk:
            return await run_on_many(source, "rerun", where or (), everything=everything, yes=yes, as_json=as_json)
        from taskmill.cli.tasks.tables import print_done
        from taskmill.cli.tasks.task_ids import full_ids

        for task_id in await full_ids(source, task_ids or ()):
            print_done(await source.rerun(task_id, key=key, start=start), "", as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


@app.command()
def answer(
    task_id: options.TaskId,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Fields of the answer. Or: decline, cancel.", show_default=False),
    ] = None,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Answer the questions that a task waits for; without KEY=VALUE, they are asked in the terminal."""

    async def work(source: "TaskSource") -> int:
        from taskmill.cli.tasks.answer import answer_task
        from taskmill.cli.tasks.tables import print_done
        from taskmill.cli.tasks.task_ids import full_id

        print_done(await answer_task(source, await full_id(source, task_id), words or ()), "answered", as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


def run_on_source(
    work: Callable[["TaskSource"], Awaitable[int]], url: str | None, token: str | None, redis_url: str | None
) -> None:
    """Run the command's work on the tasks of a server, or of a Redis, and end with its exit code."""
    configure(LogLevel.ERROR)
    if url is not None and redis_url is not None:
        raise UsageError("Give either --url or --redis-url.")
    if url is None:
        sys.exit(_run_on_redis(work, redis_url))
    from taskmill.cli.tasks.http_source import run_over_http

    sys.exit(asyncio.run(run_over_http(work, url, token)))


def _run_on_redis(work: Callable[["TaskSource"], Awaitable[int]], redis_url: str | None) -> int:
    """Run the work on the Redis of the command line or the environment, else on the embedded one of this directory.

    Where no server runs, the embedded Redis is started for the command: its data outlive the commands that use it.

    Raises:
        UsageError, SettingsError: there is no such Redis, and no data of one.
    """
    from taskmill.cli.settings import redis_for, settings_where_tasks_are
    from taskmill.cli.tasks.redis_source import run_over_redis
    from taskmill.store.settings import StoreSettings

    ways = "--url http://host:port of a running server, --redis-url (TASKMILL_REDIS_URL)"
    settings = settings_where_tasks_are(StoreSettings, redis_url, ways)

    with nullcontext(settings) if settings.redis_url else redis_for(settings) as ready, unwrap_group():
        return asyncio.run(run_over_redis(work, ready))
