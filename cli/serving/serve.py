"""`taskmill serve`: one HTTP replica of a server, under uvicorn. It answers requests; workers run the tasks."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from taskmill.cli.errors import unwrap_group
from taskmill.cli.loading import load_server, main_file
from taskmill.cli.processes.file_changes import SourceFiles
from taskmill.cli.processes.parent import Parent
from taskmill.cli.serving.connections import ConnectionLimits, LimitedConnection
from taskmill.cli.serving.listener import listening
from taskmill.cli.serving.ready_line import ready_line, server_summary
from taskmill.cli.settings import needs_embedded, redis_for, settings_for
from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.http.auth_advice import auth_advice
from taskmill.server.http.transport_security import is_local
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.workers.child_processes import end_child_processes
from taskmill.workers.process_signals import handle_signal

__all__ = ["serve_http", "trusted_proxies"]

log = structlog.get_logger()

# Seconds that open streams have to end by themselves; their clients reconnect to another replica.
_SHUTDOWN_TIMEOUT = 3


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
        limits = ConnectionLimits(
            request_timeout=settings.request_timeout, unfinished_requests=settings.unfinished_requests
        )
        config = uvicorn.Config(
            app,
            http=partial(LimitedConnection, limits=limits),  # type: ignore[arg-type]  # called, never subclassed
            ws="none",
            lifespan="off",  # run here, so that its errors are reported as ours
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
            server_header=False,
            forwarded_allow_ips=trusted_proxies(settings),
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(server, app, config, listener, lambda summary: _report_ready(parent, facts | summary)))
    end_child_processes()


async def _serve(
    server: ToolHost,
    app: Starlette,
    config: uvicorn.Config,
    listener: socket.socket,
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    async with app.router.lifespan_context(app):
        summary = await server_summary(server)
        asking = asyncio.create_task(_ask_issuer(app))
        replica = _Replica(config, lambda: on_ready(summary))
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


class _Replica(uvicorn.Server):
    """uvicorn's server, which calls `on_ready` when it listens, and leaves signals to the caller."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: uvicorn's own method raises the signal again at the end, before the store is closed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()


def trusted_proxies(settings: ServerSettings) -> list[str] | None:
    """Whose forwarded addresses are believed; None = as uvicorn's own variable says, which is this machine if unset."""
    return list(settings.trusted_proxies) if "trusted_proxies" in settings.model_fields_set else None


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
