"""`taskmill serve`: one HTTP replica of a server, under uvicorn. It answers requests; tasks are run by workers."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from taskmill.cli.errors import only_cause
from taskmill.cli.loading import load_server
from taskmill.cli.processes.parent import Parent
from taskmill.cli.serving.ready_line import offer_of, ready_line
from taskmill.cli.settings import redis_for, settings_for
from taskmill.engine.errors import OperatorError
from taskmill.server.http.transport_security import is_local
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost

__all__ = ["serve"]

# Seconds that open streams get to end by themselves; their clients come back to another replica.
_FAREWELL = 3
_BACKLOG = 2048


def serve(file: str, parent: Parent, flags: Mapping[str, Any]) -> None:
    """Serve until told to stop.

    Raises:
        ServerLoadError, UnsafeBinding, SettingsError, StoreUnavailable, RedisUnfit: at the start.
        OperatorError: the port is taken.
    """
    server = load_server(file)
    settings = settings_for(ServerSettings, server, **flags)
    app = server.http_app(
        path=settings.path,
        host=settings.host,
        allowed_hosts=settings.allowed_hosts,
        operator_token=settings.api_operator_token,
    )
    with _listening(settings.host, settings.port) as listener, redis_for(settings) as ready, only_cause():
        server.store_settings = ready
        port = listener.getsockname()[1]
        url = _url(settings, port)
        config = uvicorn.Config(
            app,
            lifespan="off",  # run here: what it raises is ours to show
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_FAREWELL,
            server_header=False,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_answer(server, app, config, listener, lambda offer: _say(parent, url, port, offer)))


async def _answer(
    server: ToolHost,
    app: Starlette,
    config: uvicorn.Config,
    listener: socket.socket,
    say: Callable[[dict[str, Any]], None],
) -> None:
    async with app.router.lifespan_context(app):
        offer = await offer_of(server)
        replica = _Replica(config, lambda: say(offer))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, replica.handle_exit, number, None)
        await replica.serve(sockets=[listener])


class _Replica(uvicorn.Server):
    """uvicorn's server, which says when it listens and leaves the signals to us."""

    def __init__(self, config: uvicorn.Config, say: Callable[[], None]) -> None:
        super().__init__(config)
        self._say = say

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: uvicorn's own raises the signal again at the end, and the store would not be closed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._say()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; closed at the end.

    Raises:
        OperatorError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise OperatorError(f"Cannot listen on {host}: {exc.strerror}.") from exc
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            # At once: two processes may bind the same port, and only the second to listen would be told.
            listener.listen(_BACKLOG)
        except OSError as exc:
            raise OperatorError(
                f"Cannot listen on {host} port {port}: {exc.strerror}. Choose another one with --port; 0 takes any."
            ) from exc
        yield listener


def _url(settings: ServerSettings, port: int) -> str:
    """The endpoint as a client on this machine, or one that may come from elsewhere, writes it."""
    host = settings.host if is_local(settings.host) else settings.allowed_hosts[0].removesuffix(":*")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    has_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
    return f"http://{host if has_port else f'{host}:{port}'}{settings.path}"


def _say(parent: Parent, url: str, port: int, offer: dict[str, Any]) -> None:
    facts = {"url": url, "port": port, **offer}
    parent.ready(facts)
    if not parent.is_there:
        print(ready_line(facts), flush=True)
