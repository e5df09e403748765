"""`taskmill install --wrap` and `--unwrap`: puts a server that a host has behind Taskmill, and gives its entry back."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmill.adapters.foreign_servers import check_fastmcp
from taskmill.adapters.remote.target import is_remote, shown
from taskmill.cli.errors import UsageError
from taskmill.cli.install.config_file import ConfigSyntaxError, read_config
from taskmill.cli.install.entries import HEADERS_VARIABLE, NotWrappable, target_of, wrapping_of
from taskmill.cli.install.host_file import HostFile
from taskmill.cli.install.hosts import Host, config_path_of
from taskmill.cli.install.kept_entries import kept_entry

__all__ = ["Edit", "unwrap", "wrap"]


@dataclass(frozen=True)
class Edit:
    """A change of a host's file that is to be shown, confirmed and made."""

    file: HostFile
    text: str
    """The file's text then."""
    result: str
    """What is so then, for people."""
    kept: str | None = None
    """The entry that has to be kept as it was."""
    given_back: str | None = None
    """The entry that is as it was again."""
    notes: tuple[str, ...] = ()
    """What a person should know before."""


def wrap(host: Host, home: Path, name: str, env: Mapping[str, str], *, for_user: bool) -> Edit:
    """The change that puts an entry behind Taskmill.

    Raises:
        UsageError: there is no such entry, or it cannot be put behind Taskmill.
        ServerLoadError: FastMCP is not installed.
    """
    check_fastmcp()
    file, entry = _found(host, home, name, for_user=for_user)
    place = f"{name!r} in {file.config.path}"
    if (target := target_of(entry)) is not None:
        was = "is behind Taskmill already" if is_remote(target) else "is a server of Taskmill's own already"
        raise UsageError(f"{place} {was}: it starts taskmill stdio {shown(target)}")
    try:
        change = wrapping_of(host, entry, env)
        text = file.with_change(name, change)
        file.entry_text(name)
    except NotWrappable as exc:
        raise UsageError(f"{place} {exc}. It is left alone.") from None
    except ConfigSyntaxError as exc:
        raise UsageError(f"{file.unreadable}: {exc}.") from None
    result = f"{name} in {file.config.path} is behind Taskmill; --unwrap {name} takes that back"
    return Edit(file, text, result, kept=name, notes=tuple(_notes(host, entry, change.members)))


def unwrap(host: Host, home: Path, name: str, *, for_user: bool) -> Edit:
    """The change that gives an entry back as it was before `wrap`.

    Raises:
        UsageError: there is no such entry, or it was not wrapped here.
        OperatorError: what is kept cannot be read.
    """
    file, entry = _found(host, home, name, for_user=for_user)
    place = f"{name!r} in {file.config.path}"
    target, written = target_of(entry), kept_entry(file, name)
    if target is None:
        raise UsageError(f"{place} is not behind Taskmill: there is nothing to take back.")
    if written is None:
        raise UsageError(
            f"{place} was not wrapped here, so what was there before is not known. --remove {name} takes it out; "
            f"copies of the file from before each change are beside it: {file.config.path.name}.*.backup"
        )
    try:
        text = file.with_entry_text(name, written)
    except ConfigSyntaxError as exc:
        raise UsageError(f"{file.unreadable}: {exc}.") from None
    return Edit(file, text, f"{name} in {file.config.path} is as it was before Taskmill", given_back=name)


def _found(host: Host, home: Path, name: str, *, for_user: bool) -> tuple[HostFile, Any]:
    """The file that has the entry, where the host looks first, and the entry."""
    known: list[str] = []
    looked: list[str] = []
    for file in _files(host, home, for_user=for_user):
        try:
            servers = file.servers()
        except ConfigSyntaxError as exc:
            raise UsageError(f"{file.unreadable}: {exc}.") from None
        if name in servers:
            return file, servers[name]
        looked.append(str(file.config.path))
        known += servers
    names = ", ".join(dict.fromkeys(known)) or "none"
    places = " and ".join(dict.fromkeys(looked))
    raise UsageError(f"{host.title} has no server {name!r} in {places}. Servers there: {names}.")


def _files(host: Host, home: Path, *, for_user: bool) -> Iterator[HostFile]:
    """The places of a host's servers, where it looks first."""
    folder = Path.cwd()
    user = read_config(config_path_of(host, None, home, os.environ))
    if not for_user:
        if host.folders_key is not None:
            for each in (folder, *folder.parents):
                yield HostFile(host, user, (host.folders_key, str(each), host.key))
        if host.project_file is not None:
            yield HostFile(host, read_config(config_path_of(host, folder, home, os.environ)), (host.key,))
    yield HostFile(host, user, (host.key,))


def _notes(host: Host, entry: Any, members: Mapping[str, Any]) -> Iterator[str]:
    url = next((entry[key] for key in ("httpUrl", "url", "serverUrl") if entry.get(key)), None)
    if entry.get("command") or url is None:
        return
    if "?" in str(url):
        yield "The address has a query, which others on this machine can read in the list of processes from now on."
    env = members.get(host.env_key) or {}
    if HEADERS_VARIABLE not in env and "TASKMILL_UPSTREAM_TOKEN" not in env:
        yield (
            f"If {host.title} signs in to it, Taskmill cannot: a token for it is given by "
            "--env TASKMILL_UPSTREAM_TOKEN=..."
        )
