"""All commands of `taskmill` with their options, and the exit code of an error.

The work of a command is in a module of its own, imported when the command runs: the import of the protocol's library
alone takes a second. `taskmill tasks` has commands of its own, in `tasks/commands.py`.
"""

import asyncio
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from taskmill.cli import options
from taskmill.cli.audit.commands import audit
from taskmill.cli.console.commands import console
from taskmill.cli.errors import Failure, UsageError, failure_of, log_failure, print_failure
from taskmill.cli.imports import without_collection
from taskmill.cli.install.commands import install
from taskmill.cli.logs import LogForm, LogLevel, configure
from taskmill.cli.operations.commands import add_operator_commands
from taskmill.cli.terminal.output import OutputFailed, checked_output, open_missing
from taskmill.cli.words import as_flags, call_token, split_call_words
from taskmill.engine.errors import TaskmillError
from taskmill.store.setting_names import given_by_flag

if TYPE_CHECKING:
    from taskmill.cli.processes.prepared import PreparedProcess
    from taskmill.store.settings import StoreSettings

__all__ = ["app", "run_command_line"]

_READ_SETTINGS = ("run", "dev", "serve", "worker", "call", "stdio", "doctor")


class _Commands(TyperGroup):
    """Errors of single words without what pydantic, inside Typer, puts before and behind them."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # its own type is no public name
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            exc.message = exc.message.removeprefix("Value error, ").removeprefix("Input ")
            exc.message = exc.message.partition(", unable to parse")[0]
            raise


app = typer.Typer(
    name="taskmill",
    cls=_Commands,
    help="Background tasks for MCP servers: slow tools that never time out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def run_command_line() -> None:
    """Run the command that the process was started with; ends the process with the command's exit code."""
    open_missing()
    try:
        with checked_output():
            app()
    except OutputFailed as exc:
        print_failure(Failure(str(exc), 1))
        sys.exit(1)
    except OSError as exc:
        if exc.filename is None:
            raise
        log_failure(exc)
        print_failure(Failure(f"{exc.filename}: {exc.strerror}.", 1))
        sys.exit(1)
    except TaskmillError as exc:
        log_failure(exc)
        failure = failure_of(exc)
        print_failure(failure)
        sys.exit(failure.code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"taskmill {version('taskmill')}")
        raise typer.Exit


@app.callback()
def _main_options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.", metavar="")
    ] = False,
) -> None:
    # Not for child processes, whose command has warned, and not for `tasks`, which should start at once.
    if context.invoked_subcommand in _READ_SETTINGS and "--parent" not in sys.argv:
        from taskmill.cli.variables import warn_of_unknown_variables

        warn_of_unknown_variables(os.environ)


@app.command()
def run(
    file: options.File,
    port: options.Port = None,
    host: options.Host = None,
    allowed_hosts: options.AllowedHosts = None,
    cors_origin: options.CorsOrigin = None,
    auth_issuer: options.AuthIssuer = None,
    auth_audience: options.AuthAudience = None,
    redis_url: options.RedisUrl = None,
    concurrency: options.Concurrency = None,
    workers: options.Workers = 1,
    reload: Annotated[bool, options.flag("--reload", "Start again with the new code when a file changes.")] = False,
    log_level: options.Level = LogLevel.INFO,
    log_form: options.Form = LogForm.AUTO,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Start everything for FILE: Redis, server and workers. Ctrl-C stops all of them in order."""
    options.give_upstream_options(task, repeat, upstream_header)
    tokens = {"auth_issuer": auth_issuer, "auth_audience": auth_audience}
    flags = {"host": host, "allowed_hosts": allowed_hosts, "cors_origins": cors_origin, **tokens}
    _run(file, port, flags, redis_url, concurrency, workers, log_level, log_form, reload=reload)


@app.command()
def dev(
    file: options.File,
    port: options.Port = None,
    host: options.Host = None,
    allowed_hosts: options.AllowedHosts = None,
    cors_origin: options.CorsOrigin = None,
    auth_issuer: options.AuthIssuer = None,
    auth_audience: options.AuthAudience = None,
    redis_url: options.RedisUrl = None,
    concurrency: options.Concurrency = None,
    workers: options.Workers = 1,
    log_level: options.Level = LogLevel.DEBUG,
    log_form: options.Form = LogForm.AUTO,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """The same as `run --reload`, with the debug lines: for writing FILE. A change starts the new code."""
    options.give_upstream_options(task, repeat, upstream_header)
    tokens = {"auth_issuer": auth_issuer, "auth_audience": auth_audience}
    flags = {"host": host, "allowed_hosts": allowed_hosts, "cors_origins": cors_origin, **tokens}
    _run(file, port, flags, redis_url, concurrency, workers, log_level, log_form, reload=True)


def _run(
    file: str,
    port: int | None,
    server_flags: dict[str, str | None],
    redis_url: str | None,
    concurrency: int | None,
    workers: int,
    log_level: LogLevel,
    log_form: LogForm,
    *,
    reload: bool,
) -> None:
    configure(log_level, log_form)
    from taskmill.cli.processes.supervisor import ProcessPlan
    from taskmill.cli.serving.run import check_address, run_until_stopped
    from taskmill.cli.settings import read_covered
    from taskmill.cli.source import source_of_stack
    from taskmill.server.settings import ServerSettings
    from taskmill.workers.settings import WorkerSettings

    given_by_flag({**server_flags, "port": port, "redis_url": redis_url, "concurrency": concurrency})
    settings = read_covered(WorkerSettings, redis_url=redis_url, concurrency=concurrency)
    check_address(
        read_covered(ServerSettings, port=port, host=server_flags["host"], allowed_hosts=server_flags["allowed_hosts"])
    )
    plan = ProcessPlan(
        file,
        server=as_flags(**server_flags),
        worker=as_flags(concurrency=concurrency),
        both=as_flags(
            redis_url=redis_url,
            log_level=log_level.value,
            log_form=log_form.value,
            source=source_of_stack(file),
        ),
        port=port,
        workers=workers,
        grace=settings.grace,
    )
    asyncio.run(run_until_stopped(plan, _prepare_children(workers), reload=reload))


@app.command()
def serve(
    file: options.File,
    redis_url: options.RedisUrl = None,
    host: options.Host = None,
    port: options.Port = None,
    allowed_hosts: options.AllowedHosts = None,
    cors_origin: options.CorsOrigin = None,
    auth_issuer: options.AuthIssuer = None,
    auth_audience: options.AuthAudience = None,
    log_level: options.Level = LogLevel.INFO,
    takes_over: Annotated[bool, typer.Option("--takes-over", hidden=True, metavar="")] = False,
    log_form: options.Form = LogForm.AUTO,
    source: options.Source = None,
    parent: options.ParentSocket = None,
    authors_log_level: options.AuthorsLevel = None,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Serve FILE over HTTP: one replica of its server. You can start as many as you like."""
    options.give_upstream_options(task, repeat, upstream_header)
    configure(log_level, log_form, authors=authors_log_level)
    from taskmill.cli.processes.parent import Parent

    parent_link = Parent(parent)
    with parent_link.reporting_errors():
        with without_collection():
            from taskmill.cli.serving.serve import serve_http

        where = {"redis_url": redis_url, "host": host, "port": port}
        tokens = {"auth_issuer": auth_issuer, "auth_audience": auth_audience}
        flags = {**where, "allowed_hosts": allowed_hosts, "cors_origins": cors_origin, **tokens}
        serve_http(file, parent_link, flags, source=source, takes_over=takes_over)


@app.command()
def worker(
    file: options.File,
    redis_url: options.RedisUrl = None,
    concurrency: options.Concurrency = None,
    grace: options.Grace = None,
    queue: options.Queue = None,
    shard: options.Shard = None,
    log_level: options.Level = LogLevel.INFO,
    idle_exit: Annotated[float | None, typer.Option(hidden=True)] = None,
    exit_when_changed: Annotated[bool, typer.Option("--exit-when-changed", hidden=True, metavar="")] = False,
    log_form: options.Form = LogForm.AUTO,
    source: options.Source = None,
    parent: options.ParentSocket = None,
    authors_log_level: options.AuthorsLevel = None,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Run the tasks of FILE's server. You can start as many workers as you like, on as many machines."""
    options.give_upstream_options(task, repeat, upstream_header)
    configure(log_level, log_form, authors=authors_log_level)
    from taskmill.cli.processes.parent import Parent

    parent_link = Parent(parent)
    with parent_link.reporting_errors():
        with without_collection():
            from taskmill.cli.serving.worker import run_worker

        flags = {
            "redis_url": redis_url,
            "concurrency": concurrency,
            "grace": grace,
            "queue": ",".join(queue) if queue else None,
            "shard": shard,
        }
        run_worker(file, parent_link, flags, source=source, idle_exit=idle_exit, exit_when_changed=exit_when_changed)


@app.command()
def call(
    words: options.CallWords = None,
    arguments: Annotated[str | None, typer.Option("--args", help="Arguments as JSON; @file reads a file.")] = None,
    url: options.UrlOfCall = None,
    token: options.TokenOfCall = None,
    attach: Annotated[
        str | None, typer.Option(metavar="ID", help="Follow this task, by the beginning of its id.")
    ] = None,
    answer: options.Answer = None,
    detach: Annotated[bool, options.flag("--detach", "Print the task's id and leave it running.")] = False,
    delay: options.Delay = None,
    not_before: options.NotBefore = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for the result.")] = None,
    as_json: Annotated[bool, options.flag("--json", "Print the whole result as JSON.")] = False,
    redis_url: options.RedisUrl = None,
    log_level: options.LevelOfCall = None,
    log_form: options.Form = LogForm.AUTO,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Call a tool and wait for its result: Redis, server and worker start and end with the call.

    Arguments of TOOL are KEY=VALUE. A value is text, or JSON if the argument is no text. KEY=@FILE reads a file.
    """
    options.give_upstream_options(task, repeat, upstream_header)
    configure(log_level or LogLevel.WARNING, log_form, authors=log_level or LogLevel.INFO)
    from taskmill.cli.client.call import CallOptions, call_tool
    from taskmill.store.settings import read_settings
    from taskmill.workers.settings import WorkerSettings

    has_url, attaches, start = url is not None, attach is not None, options.start_of(delay, not_before)
    if attaches and start:
        raise UsageError("--delay and --not-before are for a new call: --attach follows a task that exists.")
    file, tool, pairs = split_call_words(words or [], has_url=has_url, attaches=attaches, detaches=detach)
    given_by_flag({"redis_url": redis_url})
    settings = read_settings(WorkerSettings, redis_url=redis_url)
    flags = (detach, timeout, as_json, redis_url, log_level, log_form, tuple(answer or ()))
    request = CallOptions(file, url, tool, tuple(pairs), arguments, attach, *flags, call_token(token, url), start)
    sys.exit(asyncio.run(call_tool(request, settings, _attached_id, _prepare_children(1) if url is None else [])))


def _prepare_children(workers: int) -> "list[PreparedProcess]":
    """Import what a server and a worker need, and fork a process for the server and each of the workers."""
    from taskmill.cli.processes.prepared import ending_at_interrupt, prepare

    # What is imported here, the processes have: no file beside the command, or in the current directory, may hide it.
    if not sys.flags.safe_path:
        del sys.path[0]
    with ending_at_interrupt(), without_collection():
        import_module("taskmill.cli.serving.serve")
        import_module("taskmill.cli.serving.worker")
    return prepare(1 + workers, app)


async def _attached_id(given: str, url: str | None, token: str | None, settings: "StoreSettings") -> str:
    from taskmill.cli.tasks.attached_id import attached_id

    return await attached_id(given, url, token, settings)


@app.command()
def stdio(
    file: options.File,
    redis_url: options.RedisUrl = None,
    log_level: options.Level = LogLevel.INFO,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Serve FILE to a desktop host over standard input and output. Tasks continue when the host ends.

    Hosts start this command; `taskmill install` configures them. Logs and printed text go to standard error.
    """
    options.give_upstream_options(task, repeat, upstream_header)
    from taskmill.cli.stdio.early_start import started

    host = started()
    configure(log_level)
    with host.forgetting_answers_at_failure():
        with without_collection():
            from taskmill.cli.stdio.command import serve_stdio

        serve_stdio(file, host, redis_url, log_level)


add_operator_commands(app)
for command in (install, audit, console):
    app.command()(command)


@app.command()
def doctor(
    file: options.OptionalFile = None,
    redis_url: options.RedisUrl = None,
    as_json: Annotated[bool, options.flag("--json", "Print the findings as JSON.")] = False,
    log_level: options.Level = LogLevel.ERROR,
    task: options.TaskPatterns = None,
    repeat: options.Repeat = None,
    upstream_header: options.UpstreamHeader = None,
) -> None:
    """Check Redis, the settings and FILE, and say how to correct what is wrong. Exit code 1 if something is unfit."""
    options.give_upstream_options(task, repeat, upstream_header)
    configure(log_level)
    with without_collection():
        from taskmill.cli.doctor.command import run_checks

    sys.exit(run_checks(file, redis_url, as_json=as_json))
