"""Checks of a request's headers before anything else reads them: Host, Origin, blanks around values.

What pages of other origins may read is in `cors.py`.
"""

import ipaddress
import re
from collections.abc import Sequence

import structlog
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from taskmill.engine.errors import SettingsError, UnsafeBinding
from taskmill.store.audit.records import Action, Outcome, Reason, record
from taskmill.store.setting_names import setting_example

__all__ = [
    "ANY",
    "HeaderChecks",
    "TrimmedHeaders",
    "checks_of_sdk",
    "is_local",
    "origins_of",
    "transport_security",
    "trimmed",
]

log = structlog.get_logger()

ANY = "*"
"""The origin that stands for all."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?:[0-9]{1,5}|\*))?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[^\s/:*?#@]+)(?::(?:[0-9]{1,5}|\*))?")
_CASELESS = (b"host", b"origin")
_MOST_LOGGED = 100
"""Names that are logged once each; then a caller that invents names would fill the log and the memory."""
_LONGEST_SHOWN = 100


def transport_security(
    host: str, allowed_hosts: Sequence[str], cors_origins: Sequence[str] = ()
) -> TransportSecuritySettings:
    """The checks for a server bound to `host`; always on.

    `allowed_hosts`: `name`, `name:port` or `name:*`, as clients write them in their URL; localhost is always allowed
    for a server on localhost. `cors_origins`: as `origins_of` returns them.

    Raises:
        UnsafeBinding: beyond localhost, and no host is allowed.
        SettingsError: a name is no host.
    """
    named = [_host(name) for name in allowed_hosts if name.strip()]
    if not is_local(host) and not named:
        raise UnsafeBinding(
            f"Listening on {host} reaches beyond this machine. Say which host names clients use: "
            f"{setting_example('allowed_hosts', 'tools.example.com')}."
        )
    hosts = [pattern for name in (*(_LOCAL if is_local(host) else ()), *named) for pattern in _patterns(name)]
    origins = [f"{scheme}://{pattern}" for scheme in ("http", "https") for pattern in hosts]
    origins += cors_origins
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins)


def checks_of_sdk(allowed: TransportSecuritySettings) -> TransportSecuritySettings:
    """What the SDK checks again after `HeaderChecks`: nothing if all origins are allowed, for which it has no sign."""
    return allowed.model_copy(update={"enable_dns_rebinding_protection": ANY not in allowed.allowed_origins})


def origins_of(cors_origins: Sequence[str]) -> tuple[str, ...]:
    """Origins as browsers send them: `https://name`, `https://name:port`, `http://name:*`, `null`, or `*` for all.

    Raises:
        SettingsError: one is no origin.
    """
    return tuple(_origin(origin) for origin in cors_origins if origin.strip())


class HeaderChecks:
    """The SDK's checks of Host, Origin and content type, with words that name what was sent and what allows it."""

    def __init__(self, allowed: TransportSecuritySettings) -> None:
        self._hosts = frozenset(allowed.allowed_hosts)
        self._origins = frozenset(allowed.allowed_origins)

    def refusal(self, scope: Scope, *, needs_json: bool = False) -> Response | None:
        """The answer to a request that may not pass; None = it may. Host and Origin are in lower case (`trimmed`)."""
        headers = Headers(scope=scope)
        if needs_json and not headers.get("content-type", "").lower().startswith("application/json"):
            return PlainTextResponse("A POST needs content-type: application/json.", status_code=400)
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not _matches(host, self._hosts):
            return PlainTextResponse(_refused_host(host), status_code=421)
        if origin and not _matches(origin, self._origins):
            return PlainTextResponse(_refused_origin(origin), status_code=403)
        return None


def _matches(value: str, allowed: frozenset[str]) -> bool:
    if value in allowed or ANY in allowed:
        return True
    name, colon, _ = value.rpartition(":")
    return bool(colon) and f"{name}:*" in allowed


def _refused_host(host: str) -> str:
    shown = ascii(host[:_LONGEST_SHOWN])
    if not host:
        return "The request has no Host header."
    _log_once("host.refused", host=shown)
    record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.FOREIGN_HOST)
    named = host.rpartition(":")[0] if re.search(r"[^:]:[0-9]+$", host) else host
    option = f"--allowed-hosts {named}" if _HOST.fullmatch(named) else "--allowed-hosts NAME"
    return (
        f"This server is not known by the Host {shown}. If clients do use that name, start it with {option} (or "
        "TASKMILL_ALLOWED_HOSTS). If a proxy stands before it, let the proxy pass on the client's Host "
        "(nginx: proxy_set_header Host $http_host;)."
    )


def _refused_origin(origin: str) -> str:
    shown = ascii(origin[:_LONGEST_SHOWN])
    _log_once("origin.refused", origin=shown)
    record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.FOREIGN_ORIGIN)
    option = f"--cors-origin {origin}" if _ORIGIN.fullmatch(origin) else "--cors-origin ORIGIN"
    return (
        f"Pages of the Origin {shown} may not use this server. To allow them, start it with {option} "
        "(or TASKMILL_CORS_ORIGINS)."
    )


_logged: set[str] = set()


def _log_once(event: str, **facts: str) -> None:
    """A warning for each name. A process has one log, so what was logged belongs to the process."""
    key = f"{event} {facts}"
    if key not in _logged and len(_logged) < _MOST_LOGGED:
        _logged.add(key)
        log.warning(event, **facts)


class TrimmedHeaders:
    """ASGI middleware: removes blanks around header values, which not every HTTP parser does (RFC 9110, 5.5)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app(trimmed(scope) if scope["type"] == "http" else scope, receive, send)


def trimmed(scope: Scope) -> Scope:
    """A request without the blanks around its header values, and with Host and Origin in lower case.

    Neither of the two depends on case (RFC 9110, 4.2.3; RFC 6454, 4), and the SDK compares them as they are.
    """
    headers = [
        (name, value.strip(b" \t").lower() if name in _CASELESS else value.strip(b" \t"))
        for name, value in scope["headers"]
    ]
    return {**scope, "headers": headers}


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _host(name: str) -> str:
    """A host name as clients send it.

    Raises:
        SettingsError: it is none.
    """
    written = name.strip().lower()
    if written.count(":") > 1 and not written.startswith("["):
        written = f"[{written}]"
    if not _HOST.fullmatch(written):
        raise SettingsError(
            f"{name.strip()!r} is no host name. Say each name that clients have in their URL, without scheme and path: "
            f"{setting_example('allowed_hosts', 'tools.example.com,other.example.com')}. There is no way to allow all: "
            "a page could then reach this server under a name of its own (DNS rebinding)."
        )
    return written


def _origin(origin: str) -> str:
    """An origin as browsers send it.

    Raises:
        SettingsError: it is none.
    """
    written = origin.strip().lower().removesuffix("/")
    if written not in (ANY, "null") and not _ORIGIN.fullmatch(written):
        raise SettingsError(
            f"{origin.strip()!r} is no origin. Write scheme and host, as the browser's address bar has them: "
            f"{setting_example('cors_origins', 'https://app.example.com,http://localhost:6274')}."
        )
    return written


def _patterns(name: str) -> list[str]:
    port = name.rpartition(":")[2] if not name.endswith("]") else ""
    has_port = ":" in name and (port == "*" or port.isdigit())
    return [name] if has_port else [name, f"{name}:*"]
