"""A deployment in layout 1, as its scripts wrote it: histories were streams, and there was no number."""

from typing import Any

from taskmill.store.formats.keys import Keys

__all__ = ["first_layout"]

_AT = 1_764_480_000_000
_FACTS = (
    *("tool", "dig", "queue", "default", "principal", "anonymous"),
    *("retention_ms", 86_400_000, "poll_ms", 1000),
)


def first_layout(keys: Keys, *, ended: bool) -> list[tuple[Any, ...]]:
    """The commands that make a deployment with one task, queued or completed."""
    task_id = "A" * 43
    facts = ("id", task_id, *_FACTS)
    record = ("seq", 1, "status", "pending", "created_ms", _AT, "updated_ms", _AT, "fence", 0, "attempt", 0)
    commands: list[tuple[Any, ...]] = [
        ("XADD", keys.events(task_id), "1-0", "move", "create", "at", _AT, *facts),
        ("HSET", keys.record(task_id), *record, *facts),
        ("ZADD", keys.all, _AT, task_id),
        ("HSET", keys.epoch, "history", "ab" * 20, "floor", 0),
    ]
    if not ended:
        job = f'{{"t": null, "f": "taskmill", "a": ["{task_id}"], "k": {{}}, "et": {_AT}}}'
        return [
            *commands,
            ("MSET", keys.args(task_id), '{"arguments":{}}', keys.job(task_id), job),
            ("ZADD", keys.live, _AT, task_id),
            ("ZADD", keys.open("anonymous"), _AT, task_id),
            ("ZADD", keys.queue("default"), 1, task_id),
        ]
    claimed = ("fence", 1, "attempt", 1, "crashes", 0, "worker", "old")
    return [
        *commands,
        ("XADD", keys.events(task_id), "2-0", "move", "claim", "at", _AT, *claimed),
        ("XADD", keys.events(task_id), "3-0", "move", "complete", "at", _AT, "reason", ""),
        ("HSET", keys.record(task_id), "seq", 3, "status", "completed", "ended_ms", _AT, *claimed),
        ("ZADD", keys.fading, 9_999_999_999_999, task_id),
        *(("PEXPIRE", key, 86_400_000) for key in (keys.events(task_id), keys.record(task_id))),
    ]
