"""Checks of a request's headers before the SDK reads them: Host, Origin, blanks around values."""

import ipaddress
from collections.abc import Sequence

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from taskmill.engine.errors import UnsafeBinding

__all__ = ["TrimmedHeaders", "is_local", "transport_security", "trimmed"]

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def transport_security(host: str, allowed_hosts: Sequence[str]) -> TransportSecuritySettings:
    """The SDK's checks for a server bound to `host`; always on.

    `allowed_hosts`: `name`, `name:port` or `name:*`, as clients write them in their URL; localhost is always allowed
    for a server on localhost.

    Raises:
        UnsafeBinding: beyond localhost, and no host is allowed.
    """
    named = [name.strip() for name in allowed_hosts if name.strip()]
    if not is_local(host) and not named:
        raise UnsafeBinding(
            f"Listening on {host} reaches beyond this machine. Say which host names clients use: "
            "--allowed-hosts tools.example.com (or TASKMILL_ALLOWED_HOSTS)."
        )
    hosts = [pattern for name in (*(_LOCAL if is_local(host) else ()), *named) for pattern in _patterns(name)]
    origins = [f"{scheme}://{pattern}" for scheme in ("http", "https") for pattern in hosts]
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins)


class TrimmedHeaders:
    """ASGI middleware: removes blanks around header values, which not every HTTP parser does (RFC 9110, 5.5)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app(trimmed(scope) if scope["type"] == "http" else scope, receive, send)


def trimmed(scope: Scope) -> Scope:
    """A request without the blanks around its header values."""
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _patterns(name: str) -> list[str]:
    port = name.rpartition(":")[2] if not name.endswith("]") else ""
    has_port = ":" in name and (port == "*" or port.isdigit())
    return [name] if has_port else [name, f"{name}:*"]
