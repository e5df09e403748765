"""Assembles the Lua scripts, loads them and runs them by hash. One atomic move each; the texts are in `lua/`.

A script runs from its first line at every call. Functions and tables that it does not use, and a function call for
every key, would cost Redis more than the commands do. So a script gets only what it needs of the shared texts and of
the engine's table of moves, and each key as a string.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from taskmill.engine.status import LEGAL_MOVES
from taskmill.store.connection.multiplexed import MultiplexedRedis
from taskmill.store.formats.keys import Keys

__all__ = ["Call", "Scripts", "assembled", "moves_table"]

_NAMES = (
    "answer",
    "append_output",
    "ask",
    "attach",
    "cancel",
    "claim",
    "count",
    "create",
    "find_session",
    "finish",
    "history",
    "hold",
    "log",
    "mark_unreadable",
    "page",
    "park",
    "progress",
    "read",
    "reconcile",
    "release",
    "renew",
    "retry_webhook",
    "save_error",
    "save_journal",
    "set_pause",
    "set_schedule",
    "set_state",
    "settle_webhook",
    "stats",
    "sweep",
    "take_webhooks",
    "unhold",
)

_SHARED = ("ordering.lua", "prelude.lua")
"""Stand before the scripts that use them, in this order."""

_COMMENT = re.compile(r"--[^\n]*")
_DEFINED = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)

Call = tuple[str, Sequence[str], Sequence[Any]]
"""Script name, KEYS, ARGV."""


class Scripts:
    """The scripts of one deployment: texts with its keys, and their hashes."""

    def __init__(self, keys: Keys) -> None:
        folder = resources.files("taskmill.store") / "lua"
        files = tuple((folder / name).read_text() for name in (*_SHARED, *(f"{name}.lua" for name in _NAMES)))
        self._texts = _all_assembled(files, keys.prefix, keys.in_cluster, keys.part)
        self._hashes = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._texts.items()}  # noqa: S324 (Redis names scripts by SHA-1)
        # A node whose slot is moving refuses a script of which a key is not there, before it runs. Without this one a
        # script would begin, and stop at the first of its other keys that has moved.
        self._further_keys = (keys.absent,) if keys.in_cluster else ()

    async def run(self, redis: Any, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run one script; send its text where Redis does not know it, or has lost it."""
        keys = (*keys, *self._further_keys)
        try:
            return await redis.evalsha(self._hashes[name], len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self._texts[name], len(keys), *keys, *args)

    async def run_many(self, redis: Any, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one round trip, each atomic by itself; errors are raised after all have run."""
        replies = await self._send(redis, self._commands(calls))
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # Only these: the others have run, and a second claim would take more tasks than the caller learns of. Their
            # texts go with them: what was loaded before might be on a Redis that is no longer the primary by now. All
            # scripts are loaded too: if Redis knew some, a later batch would end a task before its last progress.
            loads = [("SCRIPT", "LOAD", text) for text in self._texts.values()]
            again = self._commands([calls[at] for at in unknown], with_texts=True)
            answers = await self._send(redis, [*loads, *again])
            for at, reply in zip(unknown, answers[len(loads) :], strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def command(self, call: Call) -> tuple[Any, ...]:
        """The words of one call, for a connection of the caller's; a Redis that has lost the script refuses it."""
        return self._commands([call])[0]

    def _commands(self, calls: Sequence[Call], *, with_texts: bool = False) -> list[tuple[Any, ...]]:
        """One for each call. `with_texts`: the first of each script has its text, and so Redis knows the others."""
        more, commands = self._further_keys, list[tuple[Any, ...]]()
        sent = set[str]()
        for name, keys, args in calls:
            which = ("EVALSHA", self._hashes[name]) if not with_texts or name in sent else ("EVAL", self._texts[name])
            commands.append((*which, len(keys) + len(more), *keys, *more, *args))
            sent.add(name)
        return commands

    async def _send(self, redis: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies; an error stands where its reply would."""
        if isinstance(redis, MultiplexedRedis):
            return await redis.execute_many(commands)
        async with redis.pipeline(transaction=False) as pipe:  # an ordinary client, which a caller opened
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))

    def run_blocking(self, redis: Any, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """`run` for a thread with its own blocking connection (the lease renewer)."""
        keys = (*keys, *self._further_keys)
        try:
            return redis.evalsha(self._hashes[name], len(keys), *keys, *args)
        except NoScriptError:
            return redis.eval(self._texts[name], len(keys), *keys, *args)


@lru_cache(maxsize=16)
def _all_assembled(
    files: tuple[str, ...], prefix: str, in_cluster: bool, part: tuple[int, int] | None
) -> dict[str, str]:
    """The texts by name. All stores of a process use the same ones; to assemble them takes longer than a round trip."""
    shared, keys = files[: len(_SHARED)], Keys(prefix, in_cluster=in_cluster, part=part)
    return {name: assembled(text, shared, keys) for name, text in zip(_NAMES, files[len(_SHARED) :], strict=True)}


def assembled(script: str, shared: Iterable[str], keys: Keys) -> str:
    """The script behind those blocks of the shared texts that it needs. Blank lines separate the blocks of a text."""
    place = f"local IN_CLUSTER = {str(keys.in_cluster).lower()}"
    blocks = [block for text in (moves_table(), place, *shared) for block in text.split("\n\n")]
    kept = [keys.placed(script)]
    words = _words(script)
    for block in reversed(blocks):
        if not words.isdisjoint(_DEFINED.findall(block)):
            kept.append(keys.placed(block))
            words |= _words(block)
    return "\n\n".join(reversed(kept))


def moves_table() -> str:
    """The engine's table of moves: `FROM[move]`, the states it is legal in between blanks, and `TO[move]`, a state."""
    sources = ", ".join(
        f"{move} = ' {' '.join(sorted(source))} '" for move, (source, _) in LEGAL_MOVES.items() if source
    )
    targets = ", ".join(f"{move} = '{target}'" for move, (_, target) in LEGAL_MOVES.items() if target)
    return f"local FROM = {{ {sources} }}\n\nlocal TO = {{ {targets} }}\n"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", _COMMENT.sub("", text)))
