"""`taskmill install`: makes a desktop host start `taskmill stdio FILE`, by one entry in the host's own configuration.

Every other character of that file stays as it is; see `json_editor.py`. The hosts are listed in `hosts.py`.
"""

import contextlib
import difflib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskmill.cli.errors import UsageError
from taskmill.cli.install.config_file import ConfigFile, ConfigSyntaxError, read_config
from taskmill.cli.install.hosts import HOSTS, Host, HostName, config_path_of
from taskmill.cli.install.json_editor import remove_member, set_member, value_at
from taskmill.cli.install.toml_editor import remove_table, set_table, table_at, toml_of
from taskmill.cli.loading import file_or_module, load_server
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import is_interactive
from taskmill.server.tool_host import ToolHost

__all__ = ["InstallRequest", "install_server"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GENERIC_STEMS = ("server", "main", "app", "mcp", "__main__", "__init__")
"""File names that are too general for a server's name; the folder's name is used then."""
_SDK_DEFAULT_NAME = "mcp-server"
"""The SDK's name for a server without a name."""
_MODULE = "taskmill.cli.main"


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
    config = read_config(config_path_of(host, None if request.for_user else Path.cwd(), home, os.environ))
    if request.remove is not None:
        if request.target is not None or request.name is not None or request.env:
            raise UsageError("--remove takes a name and nothing else: taskmill install HOST --remove NAME")
        changed, result_text = (
            _without_entry(host, config, request.remove),
            f"{request.remove} is removed from {config.path}",
        )
    else:
        name, changed = _with_entry(host, config, request)
        result_text = f"{host.title} has {name} in {config.path}"
    if changed == config.text:
        print(f"taskmill: Nothing to change: {printable(result_text)}.")
        return
    print(_difference(config, changed), end="", flush=True)
    _warn_of_unset_variables(request)
    if request.dry_run or not _is_confirmed(config, request):
        print("taskmill: Nothing was changed.")
        return
    # It may contain tokens, now or later.
    private = request.for_user or host.project_file is None or bool(request.env)
    backup = config.replace(changed, private=private)
    print(f"taskmill: Now {printable(result_text)}." + (f" As it was: {printable(str(backup))}" if backup else ""))
    print(f"taskmill: {host.next_step}")


def _with_entry(host: Host, config: ConfigFile, request: InstallRequest) -> tuple[str, str]:
    """The entry's name, and the text with the entry."""
    if request.target is None:
        raise UsageError("Name the server's file: taskmill install HOST FILE. To remove a server: --remove NAME.")
    if request.name is not None and not _NAME.fullmatch(request.name):
        raise UsageError(
            f"{request.name!r} cannot be a server's name: hosts take letters, digits, - and _, 64 at most."
        )
    env = _variables(request.env)
    target = _absolute_target(request.target)
    with contextlib.redirect_stdout(sys.stderr):
        server = load_server(request.target)
    entry = _entry(host, target, env)
    try:
        servers = _servers(host, config)
        name = request.name or _name_of(target, servers) or _default_name(server, request.target)
        if name not in servers:
            return name, _with_value(host, config.text, (host.key, name), entry)
        return name, _with_updated_entry(host, config, name, servers[name], entry)
    except ConfigSyntaxError as exc:
        snippet = _snippet(host, request.name or _default_name(server, request.target), entry)
        raise UsageError(
            f"{_unreadable_message(host, config, exc)} Correct it, or add this by hand:\n{snippet}"
        ) from None


def _without_entry(host: Host, config: ConfigFile, name: str) -> str:
    try:
        servers = _servers(host, config)
        if name not in servers:
            known = ", ".join(key for key, entry in servers.items() if _target_of(entry) is not None)
            raise UsageError(f"{config.path} has no server {name!r}. Servers of Taskmill in it: {known or 'none'}.")
        if _target_of(servers[name]) is None:
            raise UsageError(f"{name!r} in {config.path} is no server of Taskmill: remove it by hand.")
        if host.is_toml:
            return remove_table(config.text, (host.key, name))
        return remove_member(config.text, (host.key, name), allow_comments=host.allows_comments)
    except ConfigSyntaxError as exc:
        raise UsageError(_unreadable_message(host, config, exc)) from None


def _unreadable_message(host: Host, config: ConfigFile, exc: ConfigSyntaxError) -> str:
    return f"{config.path} is not what {host.title} reads, so it is left alone: {exc}."


def _servers(host: Host, config: ConfigFile) -> dict[str, Any]:
    """The entries in the file.

    Raises:
        ConfigSyntaxError: the text is not valid.
    """
    if host.is_toml:
        servers = table_at(config.text, (host.key,), {})
    else:
        text = config.text if config.text.strip() else "{}"
        servers = value_at(text, (host.key,), {}, allow_comments=host.allows_comments)
    if not isinstance(servers, dict):
        raise ConfigSyntaxError(f'"{host.key}" is not an object')
    return servers


def _with_updated_entry(host: Host, config: ConfigFile, name: str, present: Any, entry: dict[str, Any]) -> str:
    """The text with our members of an entry updated; its other members stay, and so do its variables.

    Raises:
        UsageError: the entry starts something else.
    """
    if _target_of(present) != _target_of(entry):
        raise UsageError(f"{name!r} in {config.path} starts something else already. Choose another name: --name NAME.")
    text = config.text
    for key, value in entry.items():
        if key in host.extra and key in present:
            continue
        present_value = present.get(key) if key == host.env_key else None
        merged = {**present_value, **value} if isinstance(present_value, dict) else value
        text = _with_value(host, text, (host.key, name, key), merged)
    return text


def _with_value(host: Host, text: str, path: Sequence[str], value: Any) -> str:
    """The text with a value at `path`, in the host's format."""
    if host.is_toml:
        return set_table(text, path, value)
    return set_member(text if text.strip() else "{}\n", path, value, allow_comments=host.allows_comments)


def _snippet(host: Host, name: str, entry: dict[str, Any]) -> str:
    """The entry as text, to be pasted."""
    return toml_of((host.key, name), entry) if host.is_toml else json.dumps({host.key: {name: entry}}, indent=2)


def _entry(host: Host, target: str, env: Mapping[str, str]) -> dict[str, Any]:
    command, *arguments = words = [*_command(), "stdio", target]
    if host.variable is not None and any(host.variable in word for word in words):
        raise UsageError(f"{host.title} takes {host.variable} in a path for a variable: move {target} elsewhere.")
    type_ = {"type": host.type} if host.type else {}
    start: dict[str, Any] = {"command": words} if host.has_one_command else {"command": command, "args": arguments}
    return {**type_, **start, **({host.env_key: dict(env)} if env else {}), **host.extra}


def _command() -> list[str]:
    """The command of this installation, as a full path: hosts know no activated environment."""
    script = Path(sys.executable).with_name("taskmill")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", _MODULE]


def _target_of(entry: Any) -> str | None:
    """The server that an entry starts with `taskmill stdio`, None if it starts something else."""
    try:
        command = entry["command"]
        arguments = command if isinstance(command, list) else [command, *entry["args"]]
        at = arguments.index("stdio")
        is_ours = Path(arguments[0]).stem == "taskmill" or _MODULE in arguments[:at]
        return str(arguments[at + 1]) if is_ours else None
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _name_of(target: str, servers: Mapping[str, Any]) -> str | None:
    return next((name for name, entry in servers.items() if _target_of(entry) == target), None)


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


def _default_name(server: ToolHost, target: str) -> str:
    location, is_module = file_or_module(target)
    path = Path(location.rpartition(".")[2] if is_module else os.path.abspath(location))
    stem = path.parent.name if path.stem in _GENERIC_STEMS and path.parent.name else path.stem
    name = server.name if server.name != _SDK_DEFAULT_NAME else stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lower()[:64] or "taskmill"


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not _VARIABLE.fullmatch(key):
            raise UsageError(f"{pair!r} is not a variable: write --env NAME=VALUE.")
        if key in variables:
            raise UsageError(f"The variable {key} is given twice.")
        variables[key] = value
    return variables


def _difference(config: ConfigFile, changed: str) -> str:
    before, after = config.text.splitlines(), changed.splitlines()
    name = str(config.path)
    lines = difflib.unified_diff(before, after, name if config.data is not None else os.devnull, name, lineterm="")
    return "".join(f"{printable(line)}\n" for line in lines)


def _warn_of_unset_variables(request: InstallRequest) -> None:
    given = _variables(request.env)
    unseen = [key for key in sorted(os.environ) if key.startswith("TASKMILL_") and key not in given]
    if unseen and request.remove is None:
        what = " and ".join(unseen)
        print(f"taskmill: Hosts do not see this shell's {what}: --env NAME=VALUE passes one on.", file=sys.stderr)


def _is_confirmed(config: ConfigFile, request: InstallRequest) -> bool:
    if request.yes:
        return True
    if not is_interactive():
        raise UsageError("Nothing was changed. Add --yes to make this change, or --dry-run to see it only.")
    print(f"Change {printable(str(config.path))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
