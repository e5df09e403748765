"""Findings of `taskmill doctor` about who can read what: the way to Redis, and the audit trail. Nothing is changed."""

import os
from collections.abc import Iterator
from pathlib import Path

from taskmill.cli.settings import settings_for
from taskmill.engine.errors import SettingsError
from taskmill.server.http.transport_security import is_local
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.store.connection.checks import Finding
from taskmill.store.formats.audit_sinks import FILE, sinks_of
from taskmill.store.settings import StoreSettings, read_settings

__all__ = ["audit_findings", "limits_findings", "redis_access_findings"]

_TO_AUDIT = "correct TASKMILL_AUDIT, or make the folder, for the user that servers run as"


def redis_access_findings(url: str | None, name: str) -> Iterator[Finding]:
    """What is wrong with the way to a Redis that answered at this address; nothing, for one on this machine.

    `url`: None = the embedded one, on a socket in a private folder.
    """
    remote = [host for host in _hosts(url or "") if not is_local(host)]
    if url is None or not remote:
        return
    where = ", ".join(remote)
    if not _has_password(url):
        found = f"{where} lets in all who reach it: they can read and change every task"
        yield Finding(f"{name} password", "warning", found, "set requirepass (or ACL users), and put it into the URL")
    if not url.startswith("rediss"):
        found = f"what goes to {where} is not encrypted, passwords and arguments with it"
        yield Finding(f"{name} encryption", "warning", found, "use rediss://, or a network that no one else is on")


def audit_findings(settings: StoreSettings) -> Iterator[Finding]:
    """Where the audit trail goes, and the files that cannot be written."""
    sinks = sinks_of(settings.audit)
    for path in (Path(path) for kind, path in sinks if kind == FILE):
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK) or (path.exists() and not path.is_file()):
            yield Finding("audit", "unfit", f"{path} cannot be written", _TO_AUDIT)
            return
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding("audit", "warning", f"{path} can be read by other users", f"chmod 600 {path}")
    yield Finding("audit", "ok", settings.audit or "none: TASKMILL_AUDIT names no place for it")


def limits_findings(server: ToolHost | None) -> Iterator[Finding]:
    """The file of limits for one principal or a group. `server`: None = there is none to look at."""
    try:
        settings = read_settings(ServerSettings) if server is None else settings_for(ServerSettings, server)
        rules = settings.limit_rules
    except SettingsError as exc:
        if server is None:  # else authentication reports the fault of that server's settings
            yield Finding("limits", "unfit", str(exc), "correct that line")
        return
    if rules is None:
        return
    count = f"{rules.count} rule{'' if rules.count == 1 else 's'} in {settings.limits_file}"
    if server is not None and not server.has_auth:
        found = f"{count}, and without authentication no caller is one of those that they are for"
        yield Finding("limits", "warning", found, "set TASKMILL_AUTH_ISSUER, or remove TASKMILL_LIMITS_FILE")
    else:
        yield Finding("limits", "ok", count)


def _hosts(url: str) -> list[str]:
    """The hosts of an address, several behind Sentinels; none of a socket."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return []
    places = rest.partition("/")[0].partition("?")[0].rpartition("@")[2].split(",")
    return [_without_port(place) for place in places if place]


def _without_port(place: str) -> str:
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.rpartition(":")[0] if ":" in place else place


def _has_password(url: str) -> bool:
    credentials, at, _ = url.partition("://")[2].rpartition("@")
    return bool(at and credentials.partition(":")[2]) or "password=" in url
