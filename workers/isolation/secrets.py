"""What the operator has given to this process and no tool may have, and how it is kept from other processes.

Every process of a user may read the command line, the environment and the memory of that user's other processes, unless
they see to it.
"""

import ctypes
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from taskmill.store.settings import StoreSettings

__all__ = ["OURS", "addresses_of", "close_process", "cover_secrets", "secrets_of"]

OURS = "TASKMILL_"
"""Prefix of the variables that are the operator's."""
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "HEADERS")
_NO_SECRET_NAMES = ("_FILE", "_PROVIDER", "_REFRESH", "_URL")
"""Ends of names that say where a secret is found, not which."""
_LEAST_SECRET = 6
"""Letters; a shorter word would be found in what has nothing to do with it."""
_PR_SET_DUMPABLE = 4


def addresses_of(settings: StoreSettings) -> set[str]:
    """The addresses of Redis servers that the settings name."""
    return {url for url in (settings.redis_url, *settings.shards.values()) if url is not None}


def secrets_of(settings: StoreSettings, environment: Mapping[str, str]) -> set[str]:
    """Passwords of the Redis servers, as they are and as their addresses have them; keys and tokens of ours."""
    found: set[str] = set()
    for url in addresses_of(settings):
        with suppress(ValueError):
            password = urlsplit(url).password or ""
            found |= {password, unquote(password)}
    for name, value in environment.items():
        if not name.startswith(OURS) or name.endswith(_NO_SECRET_NAMES):
            continue
        if any(part in name for part in _SECRET_NAMES):
            found |= {value, *(part.strip() for part in value.replace("\n", ",").split(","))}
    return {word for word in found if len(word) >= _LEAST_SECRET}


def close_process() -> None:
    """Let no other process of this user read this one's memory, take its descriptors or trace it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def cover_secrets(secrets: Collection[str]) -> None:
    """Overwrite these words in what `/proc` shows of this process's command line and environment (Linux).

    The variables keep their values for this process and for what it starts.
    """
    if sys.platform != "linux":
        return
    for name, value in os.environ.items():
        if any(secret in value for secret in secrets):
            os.environ[name] = value  # a copy elsewhere: what `/proc` shows is the place of the first one
    with suppress(OSError, ValueError, IndexError):
        # Behind the name in parentheses, which may have spaces: proc_pid_stat(5), fields 48 to 51.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end, environment_start, environment_end = (int(field) for field in fields[45:49])
        _cover(start, end, secrets)
        _cover(environment_start, environment_end, secrets)


def _cover(start: int, end: int, words: Iterable[str]) -> None:
    """Overwrite these words in a part of this process's memory."""
    if not 0 < start < end:
        return
    text = ctypes.string_at(start, end - start)
    for word in words:
        raw = word.encode(errors="surrogateescape")
        at = text.find(raw)
        while at >= 0:
            ctypes.memset(start + at, ord("*"), len(raw))
            at = text.find(raw, at + len(raw))
