"""The number of the data's layout: which one this version reads and writes, and what a deployment in Redis has.

A process of another layout would read what is there wrongly, or not at all, so it must not open the deployment.
"""

from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import RedisUnfit
from taskmill.store.connection.checks import Finding
from taskmill.store.formats.keys import Keys

__all__ = ["LAYOUT", "inspect_layout", "open_layout"]

LAYOUT = 2
"""Raise it when a stored form changes so that the version before cannot read it, or this one not what that one wrote.

1: a history was a stream, and no number was stored. 2: a history is a list of packed events.
"""
_UNNUMBERED = 1


async def open_layout(redis: Redis, keys: Keys) -> None:
    """Return if the deployment has our layout; one without tasks gets it.

    Raises:
        RedisUnfit: it has tasks of another layout; the message says what to do.
    """
    found = await _layout_of(redis, keys)
    if found is None:
        await redis.set(keys.layout, LAYOUT, nx=True)
        found = await _layout_of(redis, keys)  # a process of another version may have been faster
    finding = _finding(found, keys)
    if finding.level == "unfit":
        raise RedisUnfit(f"{finding.detail}. To do: {finding.remedy}", findings=[finding])


async def inspect_layout(redis: Redis, keys: Keys) -> Finding:
    """What `open_layout` would find; nothing is written."""
    return _finding(await _layout_of(redis, keys), keys)


def _finding(found: int | None, keys: Keys) -> Finding:
    if found is None:
        return Finding("layout", "ok", f"no tasks yet under the prefix {keys.prefix}")
    if found == LAYOUT:
        return Finding("layout", "ok", f"the data has layout {LAYOUT}, which this version reads")
    detail = f"The tasks under the prefix {keys.prefix} are stored in layout {found}, and this version reads {LAYOUT}"
    apart = "set TASKMILL_PREFIX to another name, under which this version starts empty"
    if found > LAYOUT:
        return Finding("layout", "unfit", detail, f"use the newer version of Taskmill that wrote them, or {apart}")
    drained = "run the version that wrote them until all its tasks have ended and their results have expired"
    return Finding("layout", "unfit", detail, f"{drained}; or {apart}, while the older one goes on with its tasks")


async def _layout_of(redis: Redis, keys: Keys) -> int | None:
    """The number; None where there is none, and no task that would be in another layout."""
    stored = await redis.get(keys.layout)
    if stored is not None:
        return int(stored) if stored.isdigit() else 0
    # Before there were numbers there were streams. Without a number, but with lists, it is ours, emptied while it ran.
    for task_id in await _some_tasks(redis, keys):
        if await redis.type(keys.events(task_id)) == b"stream":
            return _UNNUMBERED
    return None


async def _some_tasks(redis: Redis, keys: Keys) -> list[str]:
    """The latest open task, and of those that have ended the one that is kept longest."""
    found: list[Any] = [*await redis.zrange(keys.live, -1, -1), *await redis.zrange(keys.fading, -1, -1)]
    return [entry.decode().split(" ")[0] for entry in found]
