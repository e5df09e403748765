"""The notation of servers that are not ours: `https://host/mcp`, `-- command args`, a `.json` file with `mcpServers`.

As one word, which a child process can be given, a command is `command:` and its words as a shell has them. Nothing here
connects to anything, and nothing of FastMCP is imported.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taskmill.engine.errors import ServerLoadError

__all__ = [
    "Upstream",
    "command_of",
    "command_target",
    "environment_digest",
    "expanded",
    "is_remote",
    "label_of",
    "shown",
    "upstreams_of",
]

_COMMAND = "command:"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PREFIX = re.compile(r"[^a-z0-9_]+")
_LAUNCHERS = {
    "npx",
    "uvx",
    "uv",
    "pipx",
    "bunx",
    "pnpm",
    "yarn",
    "node",
    "bun",
    "deno",
    "docker",
    "podman",
    "run",
    "exec",
}
_WITH_VALUE = frozenset({"-c", "-e", "-p", "--package", "--from", "--with", "--python", "--directory", "--project"})
"""Options of launchers whose value, the next word, names no server: code, a variable, a place."""
_OF_CONTAINERS = frozenset(
    {
        *("--env", "--env-file", "-v", "--volume", "--mount", "--name", "--network", "--publish", "-u", "--user"),
        *("-w", "--workdir", "--platform", "--entrypoint", "-l", "--label", "--add-host", "--memory", "--cpus"),
    }
)
_WITH_VALUE_AFTER = {"docker": _OF_CONTAINERS, "podman": _OF_CONTAINERS}
_VERSION = re.compile(r"[@:]")
"""What stands before a version, or the tag of an image."""
_OURS = "TASKMILL_"


@dataclass(frozen=True)
class Upstream:
    """One server behind Taskmill: an address or a command."""

    label: str
    """What a person calls it."""
    prefix: str | None = None
    """Before the names of its tools; None = it is the only one."""
    url: str | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The whole environment of the command."""
    directory: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def command_target(words: Sequence[str]) -> str:
    """The words behind `--` as one."""
    return _COMMAND + shlex.join(words)


def command_of(target: str) -> list[str] | None:
    """The words of a TARGET that is a command, None if it is something else."""
    return shlex.split(target.removeprefix(_COMMAND)) if target.startswith(_COMMAND) else None


def is_remote(target: str) -> bool:
    """Whether a TARGET names a server that is not an author's file."""
    return target.startswith(("http://", "https://", _COMMAND)) or target.endswith(".json")


def shown(target: str) -> str:
    """The TARGET as a person writes it behind `taskmill stdio`, without what an address may have of secrets."""
    if target.startswith(_COMMAND):
        return "-- " + target.removeprefix(_COMMAND)
    if target.startswith(("http://", "https://")):
        return target.partition("?")[0]
    return target


def label_of(target: str) -> str:
    """A name for the server, the same in each process: from the address, the command, or the file."""
    if target.startswith(("http://", "https://")):
        return urlsplit(target).hostname or "server"
    if target.startswith(_COMMAND):
        return _label_of_command(_words(target))
    return Path(target).stem


def upstreams_of(target: str, headers: Mapping[str, str]) -> list[Upstream]:
    """The servers that a TARGET names. `headers`: for addresses; those of a file come first.

    Raises:
        ServerLoadError: it names none; the words say what to write.
    """
    if target.startswith(("http://", "https://")):
        return [Upstream(label_of(target), url=_checked_url(target), headers=headers)]
    if target.startswith(_COMMAND):
        return [Upstream(label_of(target), command=tuple(_words(target)), environment=_inherited())]
    return _upstreams_of_file(Path(target), headers)


def expanded(text: str, where: str) -> str:
    """The text with `${NAME}` replaced by that variable of the environment, and `${NAME:-other}` by `other` without it.

    Raises:
        ServerLoadError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name, other = match.groups()
        found = os.environ.get(name, other)
        if found is None:
            raise ServerLoadError(f"{where} needs the environment variable {name}, which is not set.")
        return found

    return _VARIABLE.sub(value, text)


def environment_digest() -> str:
    """Changes with what a command would inherit; for processes that share a worker."""
    return sha256(json.dumps(sorted(_inherited().items())).encode()).hexdigest()[:12]


def _inherited() -> dict[str, str]:
    """What a command gets of this environment: what a host has set for it, and nothing of Taskmill's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def _words(target: str) -> list[str]:
    words = shlex.split(target.removeprefix(_COMMAND))
    if not words:
        raise ServerLoadError("Behind `--` stands the command of the server: taskmill stdio -- npx -y some-server")
    return words


def _label_of_command(words: Sequence[str]) -> str:
    """The first word that is no launcher, no option and no value of one: `server-everything` of `npx -y @scope/...`."""
    options = _WITH_VALUE
    is_value = False
    for word in words:
        stem = Path(word).name
        if is_value:
            is_value = False
            continue
        options |= _WITH_VALUE_AFTER.get(stem, frozenset())
        is_value = word in options
        if word.startswith("-") or stem in _LAUNCHERS or stem.startswith("python"):
            continue
        named = _VERSION.split(stem)[0] or stem
        return Path(named).stem if named.endswith((".py", ".js", ".mjs", ".ts", ".sh")) else named
    return Path(words[0]).name


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_one = bool(parts.hostname) and (parts.port is None or parts.port > 0) and not any(map(str.isspace, url))
    except ValueError:
        is_one = False
    if not is_one:
        raise ServerLoadError(f"{shown(url)} is no address: write https://host/mcp.")
    if parts.username or parts.password:
        raise ServerLoadError(
            "An address must not hold a password, which others could read: set TASKMILL_UPSTREAM_TOKEN, or "
            '--upstream-header "Authorization: ${NAME_OF_A_VARIABLE}".'
        )
    return url


def _upstreams_of_file(path: Path, headers: Mapping[str, str]) -> list[Upstream]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServerLoadError(f"There is no file {path}.") from None
    except (OSError, ValueError) as exc:
        raise ServerLoadError(f"{path} cannot be read as JSON: {exc}.") from None
    servers = content.get("mcpServers") if isinstance(content, dict) else None
    if not isinstance(servers, dict) or not servers:
        _refuse_configuration_of_fastmcp(path, content)
        raise ServerLoadError(
            f'{path} names no servers. It has to be {{"mcpServers": {{"name": {{"command": "npx", "args": [...]}}}}}}.'
        )
    made = [_upstream_of_entry(path, str(name), entry, headers) for name, entry in servers.items()]
    if len(made) == 1:
        return [Upstream(**{**vars(made[0]), "prefix": None})]
    prefixes = [one.prefix for one in made]
    if twice := sorted({str(prefix) for prefix in prefixes if prefixes.count(prefix) > 1}):
        raise ServerLoadError(f"{path}: several servers have the prefix {', '.join(twice)}: give them other names.")
    return made


def _refuse_configuration_of_fastmcp(path: Path, content: Any) -> None:
    """Name the server's file, where `fastmcp.json` does: the rest of it is for FastMCP's own command."""
    source = content.get("source") if isinstance(content, dict) else None
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        name, _, after = source["path"].partition(":")
        entry = source.get("entrypoint") or after
        file = shlex.quote(f"{path.parent / name}{f':{entry}' if entry else ''}")
        raise ServerLoadError(f"{path} is for FastMCP's own command. Name the server's file instead: {file}")


def _upstream_of_entry(path: Path, name: str, entry: Any, headers: Mapping[str, str]) -> Upstream:
    where = f"{path}: server {name!r}"
    prefix = _PREFIX.sub("_", name.lower()).strip("_")
    if not prefix:
        raise ServerLoadError(f"{where}: the name needs a letter or a digit.")
    match entry:
        case {"url": str(url)}:
            own = _texts(entry.get("headers"), f"{where}: headers")
            return Upstream(name, prefix, url=_checked_url(expanded(url, where)), headers={**headers, **own})
        case {"command": str(command)}:
            words = [command, *_list(entry.get("args"), f"{where}: args")]
            environment = _inherited() | _texts(entry.get("env"), f"{where}: env")
            cwd = entry.get("cwd")
            return Upstream(
                name,
                prefix,
                command=tuple(expanded(word, where) for word in words),
                environment=environment,
                directory=expanded(str(cwd), where) if cwd else None,
            )
        case _:
            raise ServerLoadError(f'{where} needs a "url", or a "command" with "args".')


def _texts(value: Any, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str | int | float) for one in value.values()):
        raise ServerLoadError(f"{where} has to be an object of texts.")
    return {str(name): expanded(str(one), where) for name, one in value.items()}


def _list(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ServerLoadError(f"{where} has to be a list.")
    return [str(one) for one in value]
