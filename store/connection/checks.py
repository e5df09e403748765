"""Whether a Redis can keep the promises Taskmill makes, judged from its INFO reply.

Only INFO is used: it also works where CONFIG is forbidden. Nothing here changes a Redis, starts one or chooses one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, NoPermissionError

from taskmill.engine.errors import RedisUnfit

__all__ = ["MINIMUM_VERSION", "Finding", "inspect", "judge", "raise_unfit"]

# The first with what the scripts rely on. Every Valkey has it: the first was made from Redis 7.2.
MINIMUM_VERSION = (6, 2)

Level = Literal["ok", "warning", "unfit"]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked in a Redis."""

    name: str
    """What was checked: version, mode, role, eviction, persistence or access."""
    level: Level
    """`unfit` breaks a promise, `warning` weakens one, `ok` is as it should be."""
    detail: str
    """What was found, in words."""
    remedy: str = ""
    """What to change, with the exact setting; empty when nothing is to be done."""


async def inspect(redis: Redis, *, in_cluster: bool = False) -> list[Finding]:
    """All findings about `redis`, in a fixed order. `in_cluster`: its address is that of a cluster.

    Raises:
        RedisError: it cannot be reached or asked; `BusyLoadingError` while it loads its data, so that callers wait.
    """
    try:
        info = await redis.info()
    except NoPermissionError as error:
        return [Finding("access", "warning", f"this user may not ask for INFO ({error})", "ACL SETUSER <user> +info")]
    if info.get("loading"):
        # INFO is answered meanwhile, but nothing else is.
        raise BusyLoadingError("Redis is loading its data")
    return judge(info, in_cluster=in_cluster)


def judge(info: Mapping[str, Any], *, in_cluster: bool = False) -> list[Finding]:
    """The findings for one parsed INFO reply."""
    return [_version(info), _mode(info, in_cluster=in_cluster), _role(info), _eviction(info), _persistence(info)]


def raise_unfit(findings: Sequence[Finding]) -> None:
    """Refuse a Redis that has an unfit finding; warnings pass.

    Raises:
        RedisUnfit: names each unfit finding and the setting to change; `facts["findings"]` has them as data.
    """
    unfit = [finding for finding in findings if finding.level == "unfit"]
    if unfit:
        complaints = "".join(f"\n  {finding.name}: {finding.detail}. To do: {finding.remedy}" for finding in unfit)
        raise RedisUnfit(f"This Redis cannot keep the promises Taskmill makes.{complaints}", findings=unfit)


def _version(info: Mapping[str, Any]) -> Finding:
    # Valkey calls itself Redis 7.2.4 for compatibility and gives its own version beside it. str(): a version
    # of two parts arrives as a float.
    compatible = str(info.get("redis_version", ""))
    valkey = info.get("valkey_version")
    detail = f"Valkey {valkey}" if valkey else f"Redis {compatible or 'of an untold version'}"
    parts = re.match(r"(\d+)\.(\d+)", compatible)
    wanted = ".".join(map(str, MINIMUM_VERSION))
    if parts is None:
        return Finding("version", "warning", f"{detail}: cannot be compared", f"use Redis {wanted} or newer, or Valkey")
    if (int(parts[1]), int(parts[2])) < MINIMUM_VERSION:
        return Finding("version", "unfit", f"{detail} is too old", f"use Redis {wanted} or newer, or Valkey")
    return Finding("version", "ok", detail)


def _mode(info: Mapping[str, Any], *, in_cluster: bool) -> Finding:
    # Valkey calls the field server_mode, and redis_mode only where it is set to pass for a Redis.
    mode = str(info.get("server_mode", info.get("redis_mode", "standalone")))
    if info.get("cluster_enabled"):
        mode = "cluster"
    if mode == "cluster" and not in_cluster:
        return Finding(
            "mode", "unfit", "this is a node of a cluster", "redis+cluster://host:port,host:port follows its primaries"
        )
    if mode == "sentinel":
        return Finding(
            "mode",
            "unfit",
            "this is a Sentinel, not a Redis",
            "redis+sentinel://host:port/name follows what it watches",
        )
    return Finding("mode", "ok", mode)


def _role(info: Mapping[str, Any]) -> Finding:
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host', 'unknown')}:{info.get('master_port', '?')}"
        return Finding("role", "unfit", "this is a replica, not writable", f"give the URL of its primary, {primary}")
    return Finding("role", "ok", "takes writes")


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy")
    remedy = "`maxmemory-policy noeviction` in redis.conf, or `CONFIG SET maxmemory-policy noeviction`"
    if policy is None:
        return Finding("eviction", "warning", "this Redis does not say whether it evicts keys", remedy)
    if policy != "noeviction":
        # Every volatile or allkeys policy may drop the queue or a record once memory is short.
        return Finding("eviction", "unfit", f"maxmemory-policy is {policy}, so tasks can vanish", remedy)
    return Finding("eviction", "ok", "maxmemory-policy is noeviction")


def _persistence(info: Mapping[str, Any]) -> Finding:
    remedy = "`appendonly yes` in redis.conf, or `CONFIG SET appendonly yes`"
    if not info.get("aof_enabled"):
        return Finding("persistence", "warning", "the append-only file is off: a restart of Redis loses tasks", remedy)
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("persistence", "warning", "the append-only file cannot be written", "make room on Redis's disk")
    return Finding("persistence", "ok", "the append-only file is on")
