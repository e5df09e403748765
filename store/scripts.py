"""Loads the Lua scripts and runs them by hash. One atomic move each; the texts are in `lua/`.

How keys, the engine's table of moves and the shared functions get into them is `assembly.py`'s business.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from taskmill.store.assembly import assembled
from taskmill.store.connection.multiplexed import MultiplexedRedis
from taskmill.store.formats.keys import Keys

__all__ = ["Call", "Scripts"]

_NAMES = (
    "answer",
    "ask",
    "attach",
    "cancel",
    "census",
    "claim",
    "create",
    "emit",
    "finish",
    "keep",
    "look",
    "page",
    "park",
    "progress",
    "reconcile",
    "release",
    "renew",
    "sweep",
    "visit",
)

_SHARED = ("line.lua", "prelude.lua")
"""Stand before the scripts that use them, in this order."""

Call = tuple[str, Sequence[str], Sequence[Any]]
"""Script name, KEYS, ARGV."""


class Scripts:
    """The scripts of one deployment: texts with its keys, and their hashes."""

    def __init__(self, keys: Keys) -> None:
        folder = resources.files("taskmill.store") / "lua"
        files = tuple((folder / name).read_text() for name in (*_SHARED, *(f"{name}.lua" for name in _NAMES)))
        self._texts = _assembled(files, keys.prefix)
        self._hashes = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._texts.items()}  # noqa: S324 (Redis names scripts by SHA-1)

    async def run(self, redis: Any, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run one script; loads the texts first where Redis has forgotten them."""
        try:
            return await redis.evalsha(self._hashes[name], len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self._texts[name], len(keys), *keys, *args)

    async def run_many(self, redis: Any, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one round trip, each atomic by itself; errors are raised after all have run."""
        replies = await self._said(redis, calls)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for text in self._texts.values():
                await redis.script_load(text)
            # Only these: the others have run, and a second claim would take more than the caller is told of.
            again = await self._said(redis, [calls[at] for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _said(self, redis: Any, calls: Sequence[Call]) -> list[Any]:
        """The replies; an error stands where its reply would."""
        commands = [("EVALSHA", self._hashes[name], len(keys), *keys, *args) for name, keys, args in calls]
        if isinstance(redis, MultiplexedRedis):
            return await redis.execute_many(commands)
        async with redis.pipeline(transaction=False) as pipe:  # a client that somebody else opened
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))

    def run_blocking(self, redis: Any, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """`run` for a thread with its own blocking connection (the lease renewer)."""
        try:
            return redis.evalsha(self._hashes[name], len(keys), *keys, *args)
        except NoScriptError:
            return redis.eval(self._texts[name], len(keys), *keys, *args)


@lru_cache(maxsize=16)
def _assembled(files: tuple[str, ...], prefix: str) -> dict[str, str]:
    """The texts by name. They are the same for every store of a process, and take it longer than a round trip."""
    shared, keys = files[: len(_SHARED)], Keys(prefix)
    return {name: assembled(text, shared, keys) for name, text in zip(_NAMES, files[len(_SHARED) :], strict=True)}
