"""An application under uvicorn, in this process, with what every server of ours needs."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from taskmill.cli.serving.connections import ConnectionLimits, LimitedConnection
from taskmill.server.settings import ServerSettings
from taskmill.server.streams.event_stream import end_event_streams

__all__ = ["HttpProcess", "http_config", "loop_factory", "trusted_proxies"]

# Seconds that open streams have to end by themselves; their clients reconnect to another replica.
_SHUTDOWN_TIMEOUT = 3


def http_config(app: Any, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn serves an ASGI application whose lifespan is run elsewhere."""
    limits = ConnectionLimits(
        request_timeout=settings.request_timeout, unfinished_requests=settings.unfinished_requests
    )
    return uvicorn.Config(
        app,
        http=partial(LimitedConnection, limits=limits),  # type: ignore[arg-type]  # called, never subclassed
        ws="none",
        lifespan="off",  # run by the caller, so that its errors are reported as ours
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        server_header=False,
        forwarded_allow_ips=trusted_proxies(settings),
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop that such an application runs in."""
    return uvicorn.Config("none", log_config=None).get_loop_factory()


class HttpProcess(uvicorn.Server):
    """uvicorn's server, which calls `on_ready` when it listens, and leaves signals to the caller."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: uvicorn's own method raises the signal again at the end, before the store is closed."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop listening and end open streams of events, whose readers connect to another replica."""
        end_event_streams()
        await super().shutdown(sockets)


def trusted_proxies(settings: ServerSettings) -> list[str] | None:
    """Whose forwarded addresses are believed; None = as uvicorn's own variable says, which is this machine if unset."""
    return list(settings.trusted_proxies) if "trusted_proxies" in settings.model_fields_set else None
