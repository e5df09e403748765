"""`taskmill queues`, `tools`, `schedules`, `workers` and `webhooks`: their options. For operators, as `tasks` is."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from taskmill.cli import options
from taskmill.cli.errors import UsageError
from taskmill.cli.logs import LogLevel, configure
from taskmill.cli.tasks import commands as task_commands
from taskmill.cli.tasks.commands import run_on_source

if TYPE_CHECKING:
    from taskmill.cli.tasks.source import Json, TaskSource

__all__ = ["add_operator_commands"]

queues = typer.Typer(help="List, pause and resume queues.", no_args_is_help=True)
tools = typer.Typer(help="List, pause and resume task tools.", no_args_is_help=True)
schedules = typer.Typer(help="List the schedules of tools that run by themselves.", no_args_is_help=True)
workers = typer.Typer(help="List live workers, drain them, and change how many tasks they run.", no_args_is_help=True)
webhooks = typer.Typer(help="List webhooks that are not delivered, and try them again.", no_args_is_help=True)

Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="As tools name it, or APP/QUEUE.", show_default=False)]
Tool = Annotated[str, typer.Argument(metavar="TOOL", help="The tool, or APP/TOOL.", show_default=False)]
Worker = Annotated[
    str,
    typer.Argument(
        metavar="WORKER",
        help="Its name or the beginning of it; or a host: all workers there, those too that start later.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option(help="Why, for other operators.", show_default=False)]


def add_operator_commands(app: typer.Typer) -> None:
    """Add the commands that look at a deployment and act on it: these, and `tasks`."""
    app.add_typer(task_commands.app, name="tasks")
    groups = {"queues": queues, "tools": tools, "schedules": schedules, "workers": workers, "webhooks": webhooks}
    for name, group in groups.items():
        group.callback()(_log_errors_only)
        app.add_typer(group, name=name)
    app.command("limits")(limits)


def _log_errors_only() -> None:
    configure(LogLevel.ERROR)  # before a command refuses what it was given, which would be logged with its trace


def limits(
    principal: Annotated[
        str | None,
        typer.Option(help="Of this caller: the 64 hex digits that the audit trail has.", show_default=False),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(help="Of a caller whose token has this claim; repeated.", metavar="NAME=VALUE"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show what one caller may have, by the settings and by the file of TASKMILL_LIMITS_FILE."""
    from taskmill.cli.operations.limits import show_limits

    show_limits(principal, claim or [], as_json=as_json)


@queues.command("list")
def list_queues(
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List the queues: what waits there, their workers, and who paused them."""
    _list("queues", lambda source: source.operations.queues(), url, token, redis_url, as_json=as_json)


@queues.command("pause")
def pause_queue(
    queue: Queue,
    reason: Reason = "",
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Start no task of a queue until it is resumed, on any worker. Tasks are still created; what runs goes on."""
    _change(lambda source: source.operations.pause("queue", queue, reason), "paused", url, token, redis_url, as_json)


@queues.command("resume")
def resume_queue(
    queue: Queue,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Start tasks of a queue again, in the order in which they came."""
    _change(lambda source: source.operations.resume("queue", queue), "resumed", url, token, redis_url, as_json)


@tools.command("list")
def list_tools(
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List the task tools: how many workers have them, and who paused them."""
    _list("tools", lambda source: source.operations.tools(), url, token, redis_url, as_json=as_json)


@schedules.command("list")
def list_schedules(
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List the schedules of tools: when each fires next, when it fired last, and how that ended."""
    _list("schedules", lambda source: source.operations.schedules(), url, token, redis_url, as_json=as_json)


@tools.command("pause")
def pause_tool(
    tool: Tool,
    reason: Reason = "",
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Start no task of a tool until it is resumed; other tools of its queue go on."""
    _change(lambda source: source.operations.pause("tool", tool, reason), "paused", url, token, redis_url, as_json)


@tools.command("resume")
def resume_tool(
    tool: Tool,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Start tasks of a tool again, in the order in which they came."""
    _change(lambda source: source.operations.resume("tool", tool), "resumed", url, token, redis_url, as_json)


@workers.command("list")
def list_workers(
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List the live workers: where they run, since when, with which version, and what they run now."""
    _list("workers", lambda source: source.operations.workers(), url, token, redis_url, as_json=as_json)


@workers.command("drain")
def drain_worker(
    worker: Worker,
    reason: Reason = "",
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Have a worker take no tasks. Those that run get its grace, then they go back; it stays, idle, until `resume`."""
    _change(lambda source: source.operations.drain(worker, reason), "drains", url, token, redis_url, as_json)


@workers.command("resume")
def resume_worker(
    worker: Worker,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Have a drained worker take tasks again."""
    _change(lambda source: source.operations.undrain(worker), "resumed", url, token, redis_url, as_json)


@workers.command("concurrency")
def change_concurrency(
    worker: Worker,
    slots: Annotated[
        str, typer.Argument(metavar="N", help="Tasks at a time; or: default, as it was started.", show_default=False)
    ],
    reason: Reason = "",
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Change how many tasks a worker runs at the same time. What runs goes on, also when that is more."""
    if slots != "default" and not slots.isdecimal():
        raise UsageError("N must be a whole number, or the word default.")
    number = None if slots == "default" else int(slots)
    _change(
        lambda source: source.operations.set_slots(worker, number, reason), "changed", url, token, redis_url, as_json
    )


@webhooks.command("list")
def list_webhooks(
    state: Annotated[str, typer.Option(help="waiting, or given_up.", show_default="both")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """List the webhooks that are not delivered: what went wrong, and when they are tried again."""
    _list("webhooks", lambda source: source.operations.webhooks(state, limit), url, token, redis_url, as_json=as_json)


@webhooks.command("retry")
def retry_webhooks(
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Of whose webhook.", show_default=False)] = "",
    every: Annotated[bool, options.flag("--all", "All that were given up, a thousand at most.")] = False,
    url: options.Url = None,
    token: options.Token = None,
    redis_url: options.RedisUrl = None,
    as_json: options.Json = False,
) -> None:
    """Try a webhook again now, under the same id; or all that were given up."""
    if every == bool(task):
        raise UsageError("Name a task, or give --all: taskmill webhooks list shows them.")

    async def retry(source: "TaskSource") -> "Json":
        return await (source.operations.retry_webhooks() if every else source.operations.retry_webhook(task))

    _change(retry, "tried again", url, token, redis_url, as_json)


def _list(
    what: str,
    read: "Callable[[TaskSource], Awaitable[list[Json]]]",
    url: str | None,
    token: str | None,
    redis_url: str | None,
    *,
    as_json: bool,
) -> None:
    async def work(source: "TaskSource") -> int:
        from taskmill.cli.operations.tables import print_rows

        print_rows(what, await read(source), as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)


def _change(
    change: "Callable[[TaskSource], Awaitable[Json]]",
    word: str,
    url: str | None,
    token: str | None,
    redis_url: str | None,
    as_json: bool,
) -> None:
    async def work(source: "TaskSource") -> int:
        from taskmill.cli.operations.tables import print_changed

        print_changed(await change(source), word, as_json=as_json)
        return 0

    run_on_source(work, url, token, redis_url)
