"""The form of one server's entry in a host's file: ours, and what another one becomes when it is put behind Taskmill.

Nothing here reads or writes a file.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taskmill.adapters.remote.target import command_of, command_target
from taskmill.cli.errors import UsageError
from taskmill.cli.install.hosts import Host

__all__ = ["HEADERS_VARIABLE", "Change", "NotWrappable", "entry_of", "target_of", "wrapping_of"]

_MODULE = "taskmill.cli.main"
HEADERS_VARIABLE = "TASKMILL_UPSTREAM_HEADERS"
"""Has the headers of requests to a server, a line each."""
_URLS = ("httpUrl", "url", "serverUrl")
"""Members that have the address of a server, by host."""
_HTTP_ONLY = ("headers", "http_headers", "env_http_headers", "bearer_token_env_var")
_SIGN_IN = ("oauth", "auth", "authProviderType", "headersHelper", "oauth_resource", "scopes", "requestInit")
"""How a host signs in by itself, which it does for no command that it starts."""


class NotWrappable(ValueError):
    """The entry cannot be put behind Taskmill; `str()` says why, and what to do."""


@dataclass(frozen=True)
class Change:
    """What is different in an entry that is put behind Taskmill; its other members stay."""

    members: Mapping[str, Any]
    removed: tuple[str, ...] = ()


def entry_of(host: Host, target: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The entry that starts `taskmill stdio TARGET`.

    Raises:
        UsageError: the host would change a path in it.
    """
    words = [*_command(host), "stdio", *_target_words(target)]
    if command_of(target) is None and host.variable is not None and host.variable in target:
        raise UsageError(f"{host.title} takes {host.variable} in a path for a variable: move {target} elsewhere.")
    type_ = {"type": host.type} if host.type else {}
    return {**type_, **_start(host, words), **({host.env_key: dict(env)} if env else {}), **host.extra}


def target_of(entry: Any) -> str | None:
    """The server that an entry starts with `taskmill stdio`, None if it starts something else."""
    try:
        command = entry["command"]
        arguments = command if isinstance(command, list) else [command, *entry["args"]]
        at = arguments.index("stdio")
        if Path(arguments[0]).stem != "taskmill" and _MODULE not in arguments[:at]:
            return None
        if "--" in arguments[at:]:
            return command_target(arguments[arguments.index("--", at) + 1 :])
        return str(arguments[at + 1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def wrapping_of(host: Host, entry: Any, env: Mapping[str, str]) -> Change:
    """What an entry becomes that starts the same server behind Taskmill. `env`: more variables for it.

    Raises:
        NotWrappable: it cannot be put behind Taskmill.
    """
    if not isinstance(entry, dict):
        raise NotWrappable("is no object, so it starts nothing")
    command = _own_words(host, entry)
    url = next((entry[key] for key in _URLS if isinstance(entry.get(key), str)), None)
    if command is not None:
        members = _start(host, [*_command(host), "stdio", "--", *command])
        given = {**_env(host, entry), **env}
        return Change({**members, **({host.env_key: given} if env else {}), **_extra(host, entry)})
    if url is None:
        raise NotWrappable("has neither a command nor an address")
    _check_address(entry, url)
    members = _start(host, [*_command(host), "stdio", url])
    headers, forwarded = _headers(host, entry)
    given = {**_env(host, entry), **({HEADERS_VARIABLE: "\n".join(headers)} if headers else {}), **env}
    more: dict[str, Any] = {host.env_key: given} if given else {}
    if forwarded:
        more["env_vars"] = list(dict.fromkeys([*entry.get("env_vars", ()), *forwarded]))
    gone = [key for key in (*_URLS, *_HTTP_ONLY, *_SIGN_IN) if key in entry]
    if host.type is not None:
        more["type"] = host.type
    elif "type" in entry:
        gone.append("type")
    return Change({**members, **more, **_extra(host, entry)}, tuple(gone))


def _own_words(host: Host, entry: Mapping[str, Any]) -> list[str] | None:
    """The command of an entry with its arguments, None if it has none."""
    command, arguments = entry.get("command"), entry.get("args", [])
    if command is None or command == "":
        return None
    words = command if isinstance(command, list) else [command, *arguments] if isinstance(arguments, list) else None
    if not words or not all(isinstance(word, str) for word in words):
        raise NotWrappable("has a command that is no text, or arguments that are no list of texts")
    return words


def _check_address(entry: Mapping[str, Any], url: str) -> None:
    signed = [key for key in _SIGN_IN if entry.get(key)]
    if signed:
        raise NotWrappable(
            f"signs in by its {signed[0]!r}, which the host does for an address only. Give the entry a header with a "
            "token instead, if the server takes one"
        )
    if entry.get("type") == "sse" and "/sse" not in urlsplit(url).path:
        raise NotWrappable("uses the transport SSE at an address without /sse, which Taskmill takes for another one")


def _headers(host: Host, entry: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The lines of headers, and the variables that the host has to pass on for them."""
    lines, forwarded = [], []
    plain = {**(entry.get("headers") or {}), **(entry.get("http_headers") or {})}
    for name, value in plain.items():
        if "\n" in str(value) or (host.variable is None and "${" in str(value)):
            raise NotWrappable(f"has a header {name!r} with a value that Taskmill would change")
        lines.append(f"{name}: {value}")
    if variable := entry.get("bearer_token_env_var"):
        lines.append(f"Authorization: Bearer ${{{variable}}}")
        forwarded.append(str(variable))
    for name, variable in (entry.get("env_http_headers") or {}).items():
        lines.append(f"{name}: ${{{variable}}}")
        forwarded.append(variable)
    return lines, forwarded


def _env(host: Host, entry: Mapping[str, Any]) -> dict[str, Any]:
    found = entry.get(host.env_key)
    return dict(found) if isinstance(found, dict) else {}


def _extra(host: Host, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in host.extra.items() if key not in entry}


def _start(host: Host, words: Sequence[str]) -> dict[str, Any]:
    return {"command": list(words)} if host.has_one_command else {"command": words[0], "args": list(words[1:])}


def _target_words(target: str) -> list[str]:
    command = command_of(target)
    return [target] if command is None else ["--", *command]


def _command(host: Host) -> list[str]:
    """The command of this installation, as a full path: hosts know no activated environment."""
    script = Path(sys.executable).with_name("taskmill")
    words = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", _MODULE]
    if host.variable is not None and any(host.variable in word for word in words):
        raise UsageError(f"{host.title} takes {host.variable} in a path for a variable: move {words[0]} elsewhere.")
    return words
