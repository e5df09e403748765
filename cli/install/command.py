"""`taskmill install`: has a desktop host start `taskmill stdio FILE`, by one entry in the host's own configuration.

Every other character of that file stays as it is; see `json_text.py`. What hosts there are stands in `hosts.py`.
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

from taskmill.cli.errors import UsageFault
from taskmill.cli.install.config_file import ConfigFile, read_config
from taskmill.cli.install.hosts import HOSTS, Host, HostName, configuration_of
from taskmill.cli.install.json_editor import drop, put, value_at
from taskmill.cli.install.json_parser import JsonFault
from taskmill.cli.loading import load_server, place_of
from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import is_interactive
from taskmill.server.tool_host import ToolHost

__all__ = ["InstallRequest", "install"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNTOLD = ("server", "main", "app", "mcp", "__main__", "__init__")
"""File names that say nothing; then the folder's says more."""
_UNNAMED = "mcp-server"
"""What the SDK calls a server without a name."""
_MODULE = "taskmill.cli.main"


@dataclass(frozen=True)
class InstallRequest:
    """What the command line says."""

    host: HostName
    target: str | None
    name: str | None
    env: Sequence[str]
    remove: str | None
    for_user: bool
    dry_run: bool
    yes: bool


def install(wish: InstallRequest) -> None:
    """Show the change; make it if that is wanted.

    Raises:
        UsageFault: the words do not fit together, the name is taken, or the file is not what the host reads.
        ServerLoadError: FILE has no server.
        OperatorError: the file cannot be read or written.
    """
    host = HOSTS[wish.host]
    config = read_config(configuration_of(host, None if wish.for_user else Path.cwd(), Path.home(), os.environ))
    if wish.remove is not None:
        if wish.target is not None or wish.name is not None or wish.env:
            raise UsageFault("--remove takes a name and nothing else: taskmill install HOST --remove NAME")
        changed, done = _without(host, config, wish.remove), f"{wish.remove} is out of {config.path}"
    else:
        name, changed = _with(host, config, wish)
        done = f"{host.title} has {name} in {config.path}"
    if changed == config.text:
        print(f"taskmill: Nothing to change: {printable(done)}.")
        return
    print(_difference(config, changed), end="", flush=True)
    _warn(wish)
    if wish.dry_run or not _is_wanted(config, wish):
        print("taskmill: Nothing was changed.")
        return
    # Tokens may be in it, or come to be.
    private = wish.for_user or host.project_file is None or bool(wish.env)
    backup = config.replace(changed, private=private)
    print(f"taskmill: Now {printable(done)}." + (f" As it was: {printable(str(backup))}" if backup else ""))
    print(f"taskmill: {host.then}")


def _with(host: Host, config: ConfigFile, wish: InstallRequest) -> tuple[str, str]:
    """The entry's name, and the text with it."""
    if wish.target is None:
        raise UsageFault("Say which server: taskmill install HOST FILE. To take one out: --remove NAME.")
    if wish.name is not None and not _NAME.fullmatch(wish.name):
        raise UsageFault(f"{wish.name!r} cannot be a server's name: hosts take letters, digits, - and _, 64 at most.")
    env = _variables(wish.env)
    target = _lasting(wish.target)
    with contextlib.redirect_stdout(sys.stderr):
        server = load_server(wish.target)
    entry = _entry(host, target, env)
    try:
        servers = _servers(host, config)
        name = wish.name or _name_of(target, servers) or _usual_name(server, wish.target)
        if name not in servers:
            text = config.text if config.text.strip() else "{}\n"
            return name, put(text, (host.key, name), entry, lenient=host.is_lenient)
        return name, _updated(host, config, name, servers[name], entry)
    except JsonFault as exc:
        snippet = json.dumps({host.key: {wish.name or _usual_name(server, wish.target): entry}}, indent=2)
        raise UsageFault(f"{_unreadable(host, config, exc)} Correct it, or add this by hand:\n{snippet}") from None


def _without(host: Host, config: ConfigFile, name: str) -> str:
    try:
        servers = _servers(host, config)
        if name not in servers:
            known = ", ".join(key for key, entry in servers.items() if _target_of(entry) is not None)
            raise UsageFault(f"{config.path} has no server {name!r}. Servers of Taskmill in it: {known or 'none'}.")
        if _target_of(servers[name]) is None:
            raise UsageFault(f"{name!r} in {config.path} is no server of Taskmill: take it out by hand.")
        return drop(config.text, (host.key, name), lenient=host.is_lenient)
    except JsonFault as exc:
        raise UsageFault(_unreadable(host, config, exc)) from None


def _unreadable(host: Host, config: ConfigFile, exc: JsonFault) -> str:
    return f"{config.path} is not what {host.title} reads, so it is left alone: {exc}."


def _servers(host: Host, config: ConfigFile) -> dict[str, Any]:
    """The entries that are there.

    Raises:
        JsonFault: the text is not of the right form.
    """
    servers = value_at(config.text if config.text.strip() else "{}", (host.key,), {}, lenient=host.is_lenient)
    if not isinstance(servers, dict):
        raise JsonFault(f'"{host.key}" is not an object')
    return servers


def _updated(host: Host, config: ConfigFile, name: str, found: Any, entry: dict[str, Any]) -> str:
    """The text with our own members of an entry renewed; others in it stay, and so do variables.

    Raises:
        UsageFault: the entry is of another server.
    """
    if _target_of(found) != _target_of(entry):
        raise UsageFault(f"{name!r} in {config.path} starts something else already. Choose another name: --name NAME.")
    text = config.text
    for key, value in entry.items():
        before = found.get(key) if key == "env" else None
        merged = {**before, **value} if isinstance(before, dict) else value
        text = put(text, (host.key, name, key), merged, lenient=host.is_lenient)
    return text


def _entry(host: Host, target: str, env: Mapping[str, str]) -> dict[str, Any]:
    command, *words = [*_command(), "stdio", target]
    if host.variable is not None and any(host.variable in word for word in (command, *words)):
        raise UsageFault(f"{host.title} takes {host.variable} in a path for a variable: move {target} elsewhere.")
    kind = {"type": "stdio"} if host.says_type else {}
    return {**kind, "command": command, "args": words, **({"env": dict(env)} if env else {})}


def _command() -> list[str]:
    """This very installation's command: hosts know nothing of an activated environment."""
    script = Path(sys.executable).with_name("taskmill")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", _MODULE]


def _target_of(entry: Any) -> str | None:
    """Which server an entry has `taskmill stdio` start, None if it starts something else."""
    try:
        words = [entry["command"], *entry["args"]]
        at = words.index("stdio")
        is_ours = Path(words[0]).stem == "taskmill" or _MODULE in words[:at]
        return str(words[at + 1]) if is_ours else None
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _name_of(target: str, servers: Mapping[str, Any]) -> str | None:
    return next((name for name, entry in servers.items() if _target_of(entry) == target), None)


def _lasting(target: str) -> str:
    """`target` as it is understood in any working directory.

    Raises:
        UsageFault: a module that is found only from here.
    """
    place, is_module = place_of(target)
    if not is_module:
        return os.path.abspath(place) + target.removeprefix(place)
    if importlib.util.find_spec(place.partition(".")[0]) is None:
        raise UsageFault(f"{place} is found in this folder only, and hosts start elsewhere: name its file instead.")
    return target


def _usual_name(server: ToolHost, target: str) -> str:
    place, is_module = place_of(target)
    path = Path(place.rpartition(".")[2] if is_module else os.path.abspath(place))
    stem = path.parent.name if path.stem in _UNTOLD and path.parent.name else path.stem
    said = server.name if server.name != _UNNAMED else stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", said).strip("-").lower()[:64] or "taskmill"


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not _VARIABLE.fullmatch(key):
            raise UsageFault(f"{pair!r} is not a variable: write --env NAME=VALUE.")
        if key in variables:
            raise UsageFault(f"The variable {key} is given twice.")
        variables[key] = value
    return variables


def _difference(config: ConfigFile, changed: str) -> str:
    before, after = config.text.splitlines(), changed.splitlines()
    name = str(config.path)
    lines = difflib.unified_diff(before, after, name if config.data is not None else os.devnull, name, lineterm="")
    return "".join(f"{printable(line)}\n" for line in lines)


def _warn(wish: InstallRequest) -> None:
    given = _variables(wish.env)
    unseen = [key for key in sorted(os.environ) if key.startswith("TASKMILL_") and key not in given]
    if unseen and wish.remove is None:
        what = " and ".join(unseen)
        print(f"taskmill: Hosts do not see this shell's {what}: --env NAME=VALUE passes one on.", file=sys.stderr)


def _is_wanted(config: ConfigFile, wish: InstallRequest) -> bool:
    if wish.yes:
        return True
    if not is_interactive():
        raise UsageFault("Nothing was changed. Say --yes to make this change, or --dry-run to look only.")
    print(f"Change {printable(str(config.path))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
