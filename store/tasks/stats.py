"""Counts of tasks and of workers, from Redis: the same on every replica."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.status import Status
from taskmill.store.formats.keys import Keys

__all__ = ["QueueCount", "Stats", "count_unsealed", "live_workers", "queues_of", "stats_of", "stats_of_all"]

_LATEST = 1000
"""Tasks that are looked at for signatures."""
_DIGITS = 16
"""More than any count has."""


@dataclass(frozen=True, slots=True)
class QueueCount:
    """One queue."""

    name: str
    depth: int
    """Its open tasks: waiting, running, or asking; not those that wait for a slot of a full lane."""
    due: int
    """Of these, those that wait for a worker right now."""
    oldest_ms: int
    """How long the next of those has waited."""
    by_status: dict[str, int]
    """Open tasks by state; `other` where there were too many to look at each."""
    held: int = 0
    """Of the pending ones, those that do not start because the queue or their tool is paused."""


@dataclass(frozen=True, slots=True)
class Stats:
    """All tasks."""

    open: int
    kept: int
    """Tasks that can be read, ended ones included."""
    dead_letters: int
    """Tasks that broke for good and were not run again."""
    ended: dict[tuple[str, str], int]
    """How many have ever ended, by kind of outcome and queue; only grows."""
    queues: tuple[QueueCount, ...]
    unreachable: tuple[str, ...] = ()
    """Names of shards that are not counted, because they do not answer."""
    ended_by_tool: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """The same as `ended`, by tool too; '' where the tool was not counted."""
    undelivered_webhooks: int = 0
    """Ended tasks that are not delivered to their webhooks, given up or not."""


def stats_of(reply: Sequence[Any]) -> Stats:
    """What the script `stats` replied."""
    _now, opened, kept, dead, undelivered, flat, *rows = reply
    by_tool = dict(_endings(flat))
    return Stats(
        opened,
        kept,
        dead,
        _by_queue(by_tool),
        tuple(map(_queue, rows)),
        ended_by_tool=by_tool,
        undelivered_webhooks=undelivered,
    )


def _endings(flat: Sequence[bytes]) -> Iterator[tuple[tuple[str, str, str], int]]:
    """Outcome, queue and tool, and how many; the tool is empty where it was not counted.

    A row of another program is left out: all other figures can be read.
    """
    for ending, count in zip(flat[::2], flat[1::2], strict=True):
        outcome, *rest = ending.decode("utf-8", "replace").split(" ", 2)
        if rest and count.isdigit() and len(count) < _DIGITS:
            yield (outcome, rest[0], "".join(rest[1:])), int(count)


def _by_queue(by_tool: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str], int]:
    ended: Counter[tuple[str, str]] = Counter()
    for (outcome, queue, _), count in by_tool.items():
        ended[outcome, queue] += count
    return dict(ended)


def stats_of_all(parts: Sequence[Stats], unreachable: tuple[str, ...]) -> Stats:
    """The sum of the shards that answer."""
    by_tool: Counter[tuple[str, str, str]] = Counter()
    queues: dict[str, QueueCount] = {}
    for part in parts:
        by_tool.update(part.ended_by_tool)
        for one in part.queues:
            queues[one.name] = _sum(queues[one.name], one) if one.name in queues else one
    return Stats(
        open=sum(part.open for part in parts),
        kept=sum(part.kept for part in parts),
        dead_letters=sum(part.dead_letters for part in parts),
        ended=_by_queue(by_tool),
        ended_by_tool=dict(by_tool),
        undelivered_webhooks=sum(part.undelivered_webhooks for part in parts),
        queues=tuple(queues.values()),
        unreachable=unreachable,
    )


def _sum(one: QueueCount, other: QueueCount) -> QueueCount:
    """A queue that has tasks on two shards."""
    by_status = dict(Counter(one.by_status) + Counter(other.by_status))
    oldest = max(one.oldest_ms, other.oldest_ms)
    held = one.held + other.held
    return QueueCount(one.name, one.depth + other.depth, one.due + other.due, oldest, by_status, held)


def _queue(row: Sequence[Any]) -> QueueCount:
    name, depth, due, oldest, held, *flat = row
    counts = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
    counts.pop("gone", None)
    # A due task waits, or its lease has just lapsed, so that it will be claimed like one that does.
    counts[Status.PENDING] = counts.get(Status.PENDING, 0) + due + held
    if unseen := depth - sum(counts.values()):
        counts["other"] = unseen
    return QueueCount(name.decode(), depth, due, oldest, counts, held)


def queues_of(worker: Mapping[str, Any]) -> list[str]:
    """The queues a live worker serves, as Redis has them."""
    qualified: list[str] | None = worker.get("queues")
    return str(worker["queue"]).split(",") if qualified is None else qualified


async def count_unsealed(redis: Redis, keys: Keys) -> tuple[int, int]:
    """How many of the latest thousand tasks were stored without seal keys, and how many these are."""
    ids: Any = await redis.zrevrange(keys.all, 0, _LATEST - 1)
    async with redis.pipeline(transaction=False) as pipe:
        for task_id in ids:
            pipe.hmget(keys.record(task_id.decode()), ["status", "signed"])
        found = await pipe.execute() if ids else []
    kept = [signed for status, signed in found if status is not None]
    return kept.count(None), len(kept)


async def live_workers(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    """What each live worker reports of itself, sorted by name; the names of dead ones are deleted."""
    names: Any = await redis.smembers(keys.workers)  # type: ignore[misc]
    reports = await redis.mget([keys.worker(name.decode()) for name in names]) if names else []
    if gone := [name for name, one in zip(names, reports, strict=True) if one is None]:
        await redis.srem(keys.workers, *gone)  # type: ignore[misc]
        orders = [f"{aspect} {name.decode()}" for name in gone for aspect in ("drained", "slots")]
        await redis.hdel(keys.orders, *orders)  # type: ignore[misc]
    return sorted(filter(None, map(_report_of, reports)), key=lambda one: str(one["worker"]))


def _report_of(stored: bytes | None) -> dict[str, Any] | None:
    """None: the worker is gone, or another program wrote it."""
    try:
        report = json.loads(stored or b"null")
    except ValueError:
        return None
    return report if isinstance(report, dict) and "worker" in report else None
