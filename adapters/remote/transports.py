"""How a server behind Taskmill is connected to: a child process with pipes, or HTTP. A transport is for one session."""

import logging
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any
from urllib.request import getproxies

import httpx2
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport
from fastmcp.mcp_config import infer_transport_type_from_url

from taskmill.adapters.remote.target import Upstream

__all__ = ["transport_to"]

_LARGEST_EVENT = 128 * 1024 * 1024
"""Bytes of one answer over HTTP: what is too large to be kept is refused later, in words."""
_TIMEOUT = httpx2.Timeout(30.0, read=None)
"""No limit to read: a call takes as long as it takes. A machine that has vanished is noticed by TCP itself."""
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
"""As many calls of one session as the worker has slots, since each holds a connection for as long as it takes."""
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 60, 15, 4


def transport_to(upstream: Upstream, note_status: Callable[[int], None]) -> ClientTransport:
    """A transport of its own for one session. `note_status`: gets the status of each answer over HTTP.

    Raises:
        FileNotFoundError: there is no such command.
    """
    if upstream.url is None:
        command, *words = upstream.command
        found = shutil.which(command, path=upstream.environment.get("PATH"))
        if found is None:
            raise FileNotFoundError(f"there is no command {command!r}")
        logging.getLogger("mcp.client.stdio").addFilter(_in_one_line)  # the same one is added once
        # Its standard error is ours: what it prints there is the operator's to read.
        return StdioTransport(
            found,
            words,
            env=dict(upstream.environment),
            cwd=upstream.directory,
            keep_alive=False,
            log_file=sys.__stderr__,
        )

    async def note(response: httpx2.Response) -> None:
        if response.request.method == "POST":  # many servers have no stream of their own, and refuse to give one
            note_status(response.status_code)

    make_client = partial(_http_client, event_hooks={"response": [note]})
    if infer_transport_type_from_url(upstream.url) == "sse":
        return SSETransport(upstream.url, headers=dict(upstream.headers), httpx_client_factory=make_client)
    return StreamableHttpTransport(
        upstream.url,
        headers=dict(upstream.headers),
        httpx_client_factory=make_client,
        max_sse_event_size=_LARGEST_EVENT,
    )


def _in_one_line(record: logging.LogRecord) -> bool:
    """The SDK logs each line of a server that is no message, a greeting perhaps, with a traceback."""
    if record.exc_info:
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "The server prints on its standard output what is no message of MCP; left out.", ()
    return True


def _http_client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
    event_hooks: Mapping[str, Any] | None = None,
    **_: Any,
) -> httpx2.AsyncClient:
    options: dict[str, Any] = {"headers": headers, "auth": auth, "timeout": _TIMEOUT, "event_hooks": event_hooks}
    connecting: dict[str, Any] = {"verify": _trusted(), "limits": _LIMITS}
    # Redirects: the SDK follows those within the server's origin, and no others.
    if not getproxies():
        options["transport"] = httpx2.AsyncHTTPTransport(**connecting, socket_options=_keepalive())
        return httpx2.AsyncClient(**options)
    return httpx2.AsyncClient(**options, **connecting)


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are accepted: the same for all sessions, since reading them takes longer than a call."""
    return httpx2.create_ssl_context()


def _keepalive() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    named = {"TCP_KEEPIDLE": _KEEPALIVE_IDLE, "TCP_KEEPINTVL": _KEEPALIVE_INTERVAL, "TCP_KEEPCNT": _KEEPALIVE_COUNT}
    return options + [
        (socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in named.items() if hasattr(socket, name)
    ]
