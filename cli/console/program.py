"""A server of the console alone, on a Redis: it answers no protocol, and runs nothing."""

import asyncio
import secrets
import signal
import socket
from contextlib import AsyncExitStack
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

from taskmill.cli.errors import unwrap_group
from taskmill.cli.serving.console import console_of, settings_shown
from taskmill.cli.serving.http_process import HttpProcess, http_config, loop_factory
from taskmill.cli.serving.listener import listening
from taskmill.cli.settings import redis_for
from taskmill.engine.errors import SettingsError
from taskmill.server.api.access import CheckedHosts, OperatorToken
from taskmill.server.audit.requests import AuditedRequests
from taskmill.server.auth.operators import operators_of
from taskmill.server.http.request_limits import HeaderLimits
from taskmill.server.http.transport_security import TrimmedHeaders, is_local, transport_security
from taskmill.server.settings import ServerSettings
from taskmill.store.audited import audited
from taskmill.store.opening import open_store
from taskmill.workers.process_signals import handle_signal

__all__ = ["serve_console"]


def serve_console(settings: ServerSettings) -> None:
    """Serve until a signal stops it. Without operators in the settings it makes a token, and prints where it is good.

    Raises:
        SettingsError: it is to listen beyond localhost, and no operator has a token; or a setting is not valid.
        UnsafeBinding, OperatorError: see `transport_security` and `listening`.
    """
    token = None
    if not operators_of(settings).has_tokens:
        if not is_local(settings.host):
            raise SettingsError(
                "Beyond localhost the console needs operators: set TASKMILL_API_OPERATOR_TOKEN or "
                "TASKMILL_OPERATOR_TOKENS."
            )
        token = secrets.token_urlsafe(24)
    with (
        listening(settings.host, settings.port) as listener,
        redis_for(settings) as ready,
        unwrap_group(),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(_serve(ready, token, listener))


async def _serve(settings: ServerSettings, token: str | None, listener: socket.socket) -> None:
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_store(settings))
        # Where servers keep a trail in this Redis, this one leaves one too.
        is_kept = await opened.audit.exists()
        store, trail = await stack.enter_async_context(audited(opened, settings, also_redis=is_kept))
        operators = operators_of(settings, token)
        mount = console_of(lambda: store, operators, settings, facts=settings_shown(settings))
        app = Starlette(routes=[Route("/", lambda _: RedirectResponse("/console/")), mount])
        app.add_middleware(OperatorToken, operators=operators)
        app.add_middleware(CheckedHosts, hosts=transport_security(settings.host, settings.allowed_hosts))
        app.add_middleware(TrimmedHeaders)
        if trail is not None:
            app.add_middleware(AuditedRequests, trail=lambda: trail, names=lambda: settings.audit_names)
        app.add_middleware(HeaderLimits)
        ready_line = _ready_line(settings, listener, token)
        process = HttpProcess(http_config(app, settings), lambda: print(ready_line, flush=True))
        for number in (signal.SIGTERM, signal.SIGINT):
            handle_signal(number, process.handle_exit, number, None)
        await process.serve(sockets=[listener])


def _ready_line(settings: ServerSettings, listener: socket.socket, token: str | None) -> str:
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}/console"
    if token is None:
        return f"Console: {url}/  Log in with an operator's token."
    return (
        f"Console: {url}/login#{quote(token)}\nThe address logs in; it is good until this command ends. Ctrl-C ends it."
    )
