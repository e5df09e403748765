"""`taskmill serve`: one HTTP replica of a server, under uvicorn. It answers requests; workers run the tasks."""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from taskmill.cli.errors import unwrap_group
from taskmill.cli.loading import load_server, main_file
from taskmill.cli.processes.file_changes import SourceFiles
from taskmill.cli.processes.parent import Parent
from taskmill.cli.serving.console import console_of, has_console, settings_shown
from taskmill.cli.serving.http_process import HttpProcess, http_config, loop_factory
from taskmill.cli.serving.listener import listening
from taskmill.cli.serving.ready_line import ready_line, server_summary
from taskmill.cli.settings import needs_embedded, redis_for, settings_for
from taskmill.cli.start_log import log_authentication, log_process, log_redis, log_server_limits, log_tools
from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.auth.operators import operators_of
from taskmill.server.http.auth_advice import auth_advice
from taskmill.server.http.transport_security import is_local
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.workers.child_processes import end_child_processes
from taskmill.workers.process_signals import handle_signal

__all__ = ["serve_http"]

log = structlog.get_logger()


def serve_http(
    file: str, parent: Parent, flags: Mapping[str, Any], *, source: str | None = None, takes_over: bool = False
) -> None:
    """Serve until a signal stops it.

    `source`: see `cli/source.py`. `takes_over`: another server has the port until this one has reported that it is
    loaded.

    Raises:
        ServerLoadError, UnsafeBinding, SettingsError, StoreUnavailable, RedisUnfit: at the start.
        OperatorError: the port is taken.
    """
    server = load_server(file)
    settings = settings_for(ServerSettings, server, source, **flags)
    server.store_settings = settings  # those of authentication and operators count, and flags are among them
    app = server.http_app(
        path=settings.path,
        host=settings.host,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
    )
    shows_console = settings.console and has_console()
    if shows_console:
        _add_console(app, server, settings)
    for advice in auth_advice(server, settings, settings.host):
        log.warning(advice.event, found=advice.found, remedy=advice.remedy)
    if takes_over:
        parent.report_loaded()
    facts: dict[str, Any] = {"sources": SourceFiles.loaded(main_file(file)).as_json()}
    listener_of_settings = listening(settings.host, settings.port, waits=takes_over)
    with listener_of_settings as listener, redis_for(settings, server) as ready, unwrap_group():
        server.store_settings = ready
        port = listener.getsockname()[1]
        embedded = str(settings.home) if needs_embedded(settings, server) else None
        facts |= {"url": _url(settings, port), "port": port, "embedded": embedded}
        config = http_config(app, settings)
        log_start = partial(_log_start, server, ready, facts, shows_console)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            report = lambda summary: _report_ready(parent, facts | summary)  # noqa: E731
            runner.run(_serve(server, app, config, listener, log_start, report))
    end_child_processes()


def _log_start(
    server: ToolHost,
    settings: ServerSettings,
    facts: Mapping[str, Any],
    shows_console: bool,
    summary: Mapping[str, Any],
) -> None:
    """Log what the server is and works with. Not before its store is open: a missing one is one line."""
    log_process("server", settings, url=facts["url"])
    log_redis(settings, embedded=facts["embedded"] is not None)
    log_tools(**summary)
    has_operators = operators_of(settings).has_tokens
    log_authentication(server, settings, operators=has_operators, console=shows_console and has_operators)
    log_server_limits(settings)


def _add_console(app: Starlette, server: ToolHost, settings: ServerSettings) -> None:
    """Show the tasks of the server to its operators at `/console`."""
    queues = lambda: {name: policy.queue for name, policy in server.policies().items()}  # noqa: E731
    facts = settings_shown(settings)
    mount = console_of(
        lambda: server.store, operators_of(settings), settings, app=settings.app or "", tools=queues, facts=facts
    )
    app.router.routes.append(mount)


async def _serve(
    server: ToolHost,
    app: Starlette,
    config: uvicorn.Config,
    listener: socket.socket,
    on_open: Callable[[dict[str, Any]], None],
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    async with app.router.lifespan_context(app):
        summary = await server_summary(server)
        on_open(summary)
        asking = asyncio.create_task(_ask_issuer(app))
        replica = HttpProcess(config, lambda: on_ready(summary))
        for number in (signal.SIGTERM, signal.SIGINT):
            handle_signal(number, replica.handle_exit, number, None)
        await replica.serve(sockets=[listener])
        asking.cancel()


async def _ask_issuer(app: Starlette) -> None:
    """Have the keys of the issuer before the first token comes. An outage is logged, and stops nothing."""
    check = getattr(app.state, "check_issuer", None)
    if check is None:
        return
    try:
        await check()
    except AuthenticationUnavailable as exc:
        log.warning("auth.issuer_unavailable", why=str(exc), hint="tokens are refused with 503 until it answers")


def _url(settings: ServerSettings, port: int) -> str:
    """The URL of the endpoint for a client on this machine, or on another one if those are allowed."""
    host = settings.host if is_local(settings.host) else settings.allowed_hosts[0].removesuffix(":*")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    has_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
    return f"http://{host if has_port else f'{host}:{port}'}{settings.path}"


def _report_ready(parent: Parent, facts: dict[str, Any]) -> None:
    parent.report_ready(facts)
    if not parent.is_connected:
        print(ready_line(facts), flush=True)
