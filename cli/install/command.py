"""`taskmill install`: makes a desktop host start `taskmill stdio TARGET`, by one entry in the host's own configuration.

Every other character of that file stays as it is; see `json_editor.py`. The hosts are listed in `hosts.py`, and what
`--wrap` does with an entry that is there is in `wrapping.py`.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmill.adapters.foreign_servers import check_remote
from taskmill.adapters.remote.target import command_of, command_target, is_remote, label_of
from taskmill.cli.errors import UsageError
from taskmill.cli.install.config_file import ConfigFile, ConfigSyntaxError, read_config
from taskmill.cli.install.difference import difference
from taskmill.cli.install.entries import entry_of, target_of
from taskmill.cli.install.host_file import HostFile
from taskmill.cli.install.hosts import HOSTS, Host, HostName, config_path_of
from taskmill.cli.install.kept_entries import forget_entry, keep_entry, kept_entry
from taskmill.cli.install.wrapping import Edit, unwrap, wrap
from taskmill.cli.loading import file_or_module, load_server
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import is_interactive
from taskmill.engine.errors import ServerLoadError

__all__ = ["InstallRequest", "install_server"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GENERIC_STEMS = ("server", "main", "app", "mcp", "__main__", "__init__")
"""File names that are too general for a server's name; the folder's name is used then."""
_SDK_DEFAULT_NAME = "mcp-server"
"""The SDK's name for a server without a name."""


@dataclass(frozen=True)
class InstallRequest:
    """The options of the command line."""

    host: HostName
    target: str | None
    name: str | None
    env: Sequence[str]
    remove: str | None
    for_user: bool
    dry_run: bool
    yes: bool
    wrap: str | None = None
    unwrap: str | None = None


def install_server(request: InstallRequest) -> None:
    """Show the change, and make it if the person confirms it.

    Raises:
        UsageError: the options do not fit together, the name is in use, or the host cannot read the file.
        ServerLoadError: FILE has no server.
        OperatorError: the file cannot be read or written.
    """
    host = HOSTS[request.host]
    home = Path.home()
    if not home.is_absolute():
        raise UsageError(f"HOME is {str(home)!r}, which is no absolute path: the host's configuration cannot be found.")
    edit = _edit_of(host, home, request)
    config, changed = edit.file.config, edit.text
    if changed == config.text:
        print(f"taskmill: Nothing to change: {printable(edit.result)}.")
        return
    print(difference(edit.file, changed), end="", flush=True)
    _warn(request, edit)
    if request.dry_run or not _is_confirmed(config, without_asking=request.yes):
        print("taskmill: Nothing was changed.")
        return
    if edit.kept is not None:
        keep_entry(edit.file, edit.kept)
    # It may contain tokens, now or later.
    private = request.for_user or host.project_file is None or bool(request.env)
    backup = config.replace(changed, private=private)
    if edit.given_back is not None:
        forget_entry(edit.file, edit.given_back)
    print(f"taskmill: Now {printable(edit.result)}." + (f" As it was: {printable(str(backup))}" if backup else ""))
    print(f"taskmill: {host.next_step}")


def _edit_of(host: Host, home: Path, request: InstallRequest) -> Edit:
    """What is to be changed.

    Raises:
        UsageError: the options do not fit together, or the file does not allow it.
    """
    given = [name for name in ("remove", "wrap", "unwrap") if getattr(request, name) is not None]
    if given:
        allows_env = given == ["wrap"]
        if len(given) > 1 or request.target is not None or request.name or (request.env and not allows_env):
            more = " and --env" if allows_env else " and nothing else"
            raise UsageError(f"--{given[0]} takes a name{more}: taskmill install HOST --{given[0]} NAME")
    if request.wrap is not None:
        return wrap(host, home, request.wrap, variables(request.env), for_user=request.for_user)
    if request.unwrap is not None:
        return unwrap(host, home, request.unwrap, for_user=request.for_user)
    config = read_config(config_path_of(host, None if request.for_user else Path.cwd(), home, os.environ))
    file = HostFile(host, config, (host.key,))
    if request.remove is not None:
        return Edit(file, _without_entry(file, request.remove), f"{request.remove} is removed from {config.path}")
    name, changed = _with_entry(file, request)
    return Edit(file, changed, f"{host.title} has {name} in {config.path}")


def _with_entry(file: HostFile, request: InstallRequest) -> tuple[str, str]:
    """The entry's name, and the text with the entry."""
    if request.target is None:
        raise UsageError(
            "Name the server's file: taskmill install HOST FILE; or its address; or -- and its command. To remove a "
            "server: --remove NAME. To put one that the host has behind Taskmill: --wrap NAME."
        )
    if request.name is not None and not _NAME.fullmatch(request.name):
        raise UsageError(
            f"{request.name!r} cannot be a server's name: hosts take letters, digits, - and _, 64 at most."
        )
    env = variables(request.env)
    target, default_name = _named(request.target)
    entry = entry_of(file.host, target, env)
    try:
        servers = file.servers()
        name = request.name or _name_of(target, servers) or default_name
        if name not in servers:
            return name, file.with_entry(name, entry)
        return name, _with_updated_entry(file, name, servers[name], entry)
    except ConfigSyntaxError as exc:
        snippet = file.snippet(request.name or default_name, entry)
        raise UsageError(f"{file.unreadable}: {exc}. Correct it, or add this by hand:\n{snippet}") from None


def _without_entry(file: HostFile, name: str) -> str:
    path = file.config.path
    try:
        servers = file.servers()
        if name not in servers:
            known = ", ".join(key for key, entry in servers.items() if target_of(entry) is not None)
            raise UsageError(f"{path} has no server {name!r}. Servers of Taskmill in it: {known or 'none'}.")
        if target_of(servers[name]) is None:
            raise UsageError(f"{name!r} in {path} is no server of Taskmill: remove it by hand.")
        if kept_entry(file, name) is not None:
            raise UsageError(f"{name!r} in {path} was there before Taskmill: --unwrap {name} gives it back.")
        return file.without_entry(name)
    except ConfigSyntaxError as exc:
        raise UsageError(f"{file.unreadable}: {exc}.") from None


def _with_updated_entry(file: HostFile, name: str, present: Any, entry: dict[str, Any]) -> str:
    """The text with our members of an entry updated; its other members stay, and so do its variables.

    Raises:
        UsageError: the entry starts something else.
    """
    if target_of(present) != target_of(entry):
        raise UsageError(
            f"{name!r} in {file.config.path} starts something else already. Choose another name: --name NAME."
        )
    env_key = file.host.env_key
    members = {key: value for key, value in entry.items() if key not in file.host.extra or key not in present}
    if env_key in members and isinstance(present.get(env_key), dict):
        members[env_key] = {**present[env_key], **members[env_key]}
    return file.with_members(name, members)


def _name_of(target: str, servers: Mapping[str, Any]) -> str | None:
    return next((name for name, entry in servers.items() if target_of(entry) == target), None)


def _named(target: str) -> tuple[str, str]:
    """`target` in a form that is valid in any working directory, and the server's name if no other one is given.

    Raises:
        UsageError, ServerLoadError: there is no such server, or it is found only from this folder.
    """
    if not is_remote(target):
        absolute = _absolute_target(target)
        with contextlib.redirect_stdout(sys.stderr):
            server = load_server(target)
        return absolute, _as_name(server.name if server.name != _SDK_DEFAULT_NAME else _stem(target))
    check_remote(target)
    words = command_of(target)
    if words is None:
        absolute = os.path.abspath(target) if target.endswith(".json") else target
        return absolute, _as_name(label_of(target))
    if shutil.which(words[0]) is None:
        raise ServerLoadError(f"There is no command {words[0]!r}.")
    return command_target([_absolute_word(word) for word in words]), _as_name(label_of(target))


def _absolute_word(word: str) -> str:
    """A word of a command, with the full path of a file or folder of here: hosts start elsewhere."""
    is_path = os.sep in word or word in (os.curdir, os.pardir) or os.path.isfile(word)
    return os.path.abspath(word) if is_path and os.path.exists(word) else word


def _absolute_target(target: str) -> str:
    """`target` in a form that is valid in any working directory.

    Raises:
        UsageError: it is a module that is found only in this folder.
    """
    location, is_module = file_or_module(target)
    if not is_module:
        return os.path.abspath(location) + target.removeprefix(location)
    if importlib.util.find_spec(location.partition(".")[0]) is None:
        raise UsageError(f"{location} is found in this folder only, and hosts start elsewhere: name its file instead.")
    return target


def _stem(target: str) -> str:
    location, is_module = file_or_module(target)
    path = Path(location.rpartition(".")[2] if is_module else os.path.abspath(location))
    return path.parent.name if path.stem in _GENERIC_STEMS and path.parent.name else path.stem


def _as_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lower()[:64] or "taskmill"


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """What `--env` gives.

    Raises:
        UsageError: it is no variable, or twice the same.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not _VARIABLE.fullmatch(key):
            raise UsageError(f"{pair!r} is not a variable: write --env NAME=VALUE.")
        if key in found:
            raise UsageError(f"The variable {key} is given twice.")
        found[key] = value
    return found


def _warn(request: InstallRequest, edit: Edit) -> None:
    """Of what the person should know before the change is made."""
    given = variables(request.env)
    unseen = [key for key in sorted(os.environ) if key.startswith("TASKMILL_") and key not in given]
    if unseen and request.remove is None and request.unwrap is None:
        what = " and ".join(unseen)
        print(f"taskmill: Hosts do not see this shell's {what}: --env NAME=VALUE passes one on.", file=sys.stderr)
    for note in edit.notes:
        print(f"taskmill: {printable(note)}", file=sys.stderr)


def _is_confirmed(config: ConfigFile, *, without_asking: bool) -> bool:
    """Whether the person wants the change.

    Raises:
        UsageError: there is no one to ask.
    """
    if without_asking:
        return True
    if not is_interactive():
        raise UsageError("Nothing was changed. Add --yes to make this change, or --dry-run to see it only.")
    print(f"Change {printable(str(config.path))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
