"""The words of a command line: flags for child processes, what `taskmill call` was given, and a command behind `--`."""

import os
from collections.abc import Sequence

from taskmill.adapters.remote.target import command_target
from taskmill.cli.errors import UsageError
from taskmill.store.setting_names import flag_of

__all__ = ["as_flags", "call_token", "split_call_words", "with_command_joined"]

_TAKE_COMMAND = ("run", "dev", "serve", "worker", "call", "stdio", "doctor", "install")


def with_command_joined(words: Sequence[str]) -> list[str]:
    """The same words, with the command behind `--` as one, where other targets stand: behind the name of our command.

    Behind all words of `install`, which names a host first.
    """
    if not words or words[0] not in _TAKE_COMMAND or "--" not in words:
        return list(words)
    at = words.index("--")
    if words[0] == "install":
        return [*words[:at], command_target(words[at + 1 :])]
    return [words[0], command_target(words[at + 1 :]), *words[1:at]]


def as_flags(**flags: str | float | None) -> tuple[str, ...]:
    """Flags as words of a command line, by the names of their settings, without those that were not given."""
    given = {name: value for name, value in flags.items() if value is not None}
    return tuple(word for name, value in given.items() for word in (flag_of(name), str(value)))


def split_call_words(
    words: list[str], *, has_url: bool, attaches: bool, detaches: bool = False
) -> tuple[str | None, str, list[str]]:
    """The words of `taskmill call` as file, tool and arguments. With `--url` the file may be left out.

    Raises:
        UsageError: a word is missing, there are too many, or options exclude each other.
    """
    if attaches and detaches:
        raise UsageError("Give either --attach or --detach: --attach follows a task that already runs.")
    if attaches:
        if len(words) > 1:
            raise UsageError("--attach takes no tool and no arguments: taskmill call --attach ID FILE")
        if not words and not has_url:
            raise UsageError("Name the server of the task: taskmill call --attach ID FILE, or --url URL.")
        return (words[0] if words else None), "", []
    starts_with_tool = has_url and (len(words) == 1 or (len(words) > 1 and "=" in words[1]))
    if len(words) < (1 if starts_with_tool else 2):
        raise UsageError("Name file and tool: taskmill call FILE TOOL key=value ..., or --url URL TOOL key=value ...")
    file, *rest = [None, *words] if starts_with_tool else words
    assert rest[0] is not None
    return file, rest[0], [word for word in rest[1:] if word is not None]


def call_token(given: str | None, url: str | None) -> str | None:
    """The token that `taskmill call` sends; a server that it starts itself is sent none.

    Raises:
        UsageError: a token without the URL that it is for.
    """
    if url is None and given is not None:
        raise UsageError("--token is for --url. For a server behind FILE, set TASKMILL_UPSTREAM_TOKEN.")
    return None if url is None else given or os.environ.get("TASKMILL_TOKEN")
