"""Which shard a queue is on, by the settings, and which one a task is on, by its id. Nothing here talks to Redis."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

from taskmill.store.formats.cluster_address import cluster_address_of
from taskmill.store.setting_names import setting_name

__all__ = ["DEFAULT_SHARD", "id_on_same_shard", "id_on_shard", "parse_pairs", "shard_map_error", "shard_of_id"]

DEFAULT_SHARD = "home"
"""The shard of TASKMILL_REDIS_URL: it has each queue that no other shard has, and what belongs to no task: sessions."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_BETWEEN = re.compile(r"[,\s]+(?=[\w.-]+=)")
"""A comma before the next `name=`: an address may have commas in it."""
_MARK = "."
"""Stands in no id of its own: ids are URL-safe base64."""


def id_on_shard(task_id: str, shard: str) -> str:
    """A fresh id, with the name of its shard at its end. Ids of the default shard name none."""
    return task_id if shard == DEFAULT_SHARD else f"{task_id}{_MARK}{shard}"


def shard_of_id(task_id: str) -> str:
    """The shard that an id names; it may be none that exists, as the task may be."""
    return task_id.partition(_MARK)[2] or DEFAULT_SHARD


def id_on_same_shard(task_id: str, fresh: str) -> str:
    """A fresh id for something that is kept on the shard of this task."""
    return id_on_shard(fresh, shard_of_id(task_id))


def parse_pairs(text: str) -> dict[str, str]:
    """`name=value,name=value` as a dict.

    Raises:
        ValueError: an entry without `=`, or two of one name; the text of neither is quoted, as it may hold a password.
    """
    found: dict[str, str] = {}
    for entry in _BETWEEN.split(text.strip(", \n\t")) if text.strip(", \n\t") else ():
        name, equals, value = entry.partition("=")
        if not equals or not name or not value:
            raise ValueError("entries must be name=value, separated by commas")
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def shard_map_error(home: str | None, shards: Mapping[str, str], queues: Mapping[str, str]) -> str | None:
    """What is wrong with a map of shards, None if nothing is."""
    for name in shards:
        if name == DEFAULT_SHARD:
            return f"{DEFAULT_SHARD} is the Redis of {setting_name('redis_url')}; call another one something else"
        if not _NAME.fullmatch(name):
            return "a shard's name is 1 to 32 small letters, digits, '_' or '-'; callers see it in the ids of tasks"
    if len({home, *shards.values()}) <= len(shards) or _same_part([home or "", *shards.values()]):
        return (
            "two shards have the same address; to keep a queue there, name the shard in TASKMILL_QUEUE_SHARDS; shards "
            "of one cluster are parts of it: ?part=1of2 and ?part=2of2"
        )
    for queue, shard in queues.items():
        if shard != DEFAULT_SHARD and shard not in shards:
            known = ", ".join([DEFAULT_SHARD, *shards])
            return f"TASKMILL_QUEUE_SHARDS puts queue {queue} on shard {shard}, which is none of {known}"
    return None


def _same_part(urls: Sequence[str]) -> bool:
    """Whether two addresses name the same part of one cluster, by whichever nodes."""
    found = [address for url in urls if (address := cluster_address_of(url)) is not None]
    return any(one.part == two.part and set(one.nodes) & set(two.nodes) for one, two in combinations(found, 2))
