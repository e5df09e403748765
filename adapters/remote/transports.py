"""How a server behind Taskmill is connected to: a child process with pipes, or HTTP. A transport is for one session."""

import shutil
import socket
import ssl
import sys
from functools import cache
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


def transport_to(upstream: Upstream) -> ClientTransport:
    """A transport of its own for one session.

    Raises:
        FileNotFoundError: there is no such command.
    """
    if upstream.url is None:
        command, *words = upstream.command
        found = shutil.which(command, path=upstream.environment.get("PATH"))
        if found is None:
            raise FileNotFoundError(f"there is no command {command!r}")
        # Its standard error is ours: what it prints there is the operator's to read.
        return StdioTransport(
            found,
            words,
            env=dict(upstream.environment),
            cwd=upstream.directory,
            keep_alive=False,
            log_file=sys.__stderr__,
        )
    if infer_transport_type_from_url(upstream.url) == "sse":
        return SSETransport(upstream.url, headers=dict(upstream.headers), httpx_client_factory=_http_client)
    return StreamableHttpTransport(
        upstream.url,
        headers=dict(upstream.headers),
        httpx_client_factory=_http_client,
        max_sse_event_size=_LARGEST_EVENT,
    )


def _http_client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
    **_: Any,
) -> httpx2.AsyncClient:
    options: dict[str, Any] = {"headers": headers, "auth": auth, "timeout": _TIMEOUT}
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
