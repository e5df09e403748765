"""What one call asks for in its `_meta`, and its keys by its tool's policy: its idempotency key, the lane of its task.

Knows the request and the policy, not the store.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mcp_types import CallToolRequestParams
from pydantic_core import to_jsonable_python

from taskmill.engine.errors import BadArguments
from taskmill.engine.key import key_of
from taskmill.engine.policy import FROM_META, TaskConfig
from taskmill.engine.record import Lane
from taskmill.engine.timing.start_time import start_ms

__all__ = [
    "META_KEY",
    "CallKeys",
    "is_shared",
    "keys_of_call",
    "meta_of_start",
    "refuse_delay",
    "start_of_call",
    "wants_delay",
]

META_KEY = "io.taskmill/idempotencyKey"
"""Where a client names its key: `_meta` of the call."""
_DELAY = "io.taskmill/delay"
"""The same for the seconds before which its task may not start."""
_NOT_BEFORE = "io.taskmill/notBefore"
"""The same for the time before which it may not."""
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class CallKeys:
    """The keys of one call, as digests - a key may hold anything -, and when it wants to start."""

    idempotency: str | None = None
    """The idempotency key, None for none."""
    idempotency_of: str = ""
    """Digest of the arguments, where the client chose the key: it may give two calls the same one by mistake."""
    lane: Lane | None = None
    """The lane its task has to stay in."""
    not_before_ms: int | None = None
    """Before when its task may not start; None = it may at once."""


def keys_of_call(
    policy: TaskConfig, params: CallToolRequestParams, arguments: Mapping[str, Any], principal: str
) -> CallKeys:
    """The keys of one call. `arguments`: validated.

    Raises:
        BadArguments: the client's key is not 1 to 256 characters of text.
        Exception: a function of the author's raised it.
    """
    if policy.idempotency is None and policy.concurrency_key is None:
        return CallKeys(lane=policy.lane(_lane_of_tool(params.name)))
    plain = {name: to_jsonable_python(value, fallback=repr) for name, value in arguments.items()}
    idempotency, idempotency_of = None, ""
    if policy.idempotency == FROM_META:
        idempotency = _key_from_meta(params)
        # A client may use one key for two calls by mistake: the second must not be answered with the first one's task.
        idempotency_of = _digest(plain) if idempotency else ""
    elif policy.idempotency is not None:
        idempotency = key_of(policy.idempotency, arguments, plain, principal)
    lane: str | None = _lane_of_tool(params.name)
    if policy.concurrency_key is not None:
        key = key_of(policy.concurrency_key, arguments, plain, principal)
        lane = None if key is None else _digest(["key", key])
    return CallKeys(
        None if idempotency is None else _digest([params.name, idempotency]),
        idempotency_of,
        None if lane is None else policy.lane(lane),
    )


def is_shared(policy: TaskConfig, params: CallToolRequestParams) -> bool:
    """Whether other calls may share the task, so that the task must not end with this one."""
    if policy.idempotency == FROM_META:
        return META_KEY in (params.meta or {})
    return policy.idempotency is not None


def wants_delay(meta: Mapping[str, Any] | None) -> bool:
    """Whether a call with this `_meta` asks for a delay of its task."""
    return meta is not None and (_DELAY in meta or _NOT_BEFORE in meta)


def start_of_call(meta: Mapping[str, Any] | None, now_ms: int) -> int | None:
    """Before when the task of a call with this `_meta` may not start; see `start_ms`."""
    asked = meta or {}
    names = (f"_meta.{_DELAY}", f"_meta.{_NOT_BEFORE}")
    return start_ms(asked.get(_DELAY), asked.get(_NOT_BEFORE), now_ms, names=names)


def meta_of_start(start: Mapping[str, Any]) -> dict[str, Any]:
    """`_meta` that asks for a start; `start` may have `delay` or `not_before`, as the HTTP API takes them."""
    names = {"delay": _DELAY, "not_before": _NOT_BEFORE}
    return {names[name]: value for name, value in start.items()}


def refuse_delay(tool: str, meta: Mapping[str, Any] | None) -> None:
    """Refuse a call that asks for a delay of a tool which does not run as a task: it would run at once.

    Raises:
        BadArguments: it does.
    """
    if wants_delay(meta):
        raise BadArguments(f"{tool} does not run as a task, so its call cannot be delayed: leave out the delay.")


def _key_from_meta(params: CallToolRequestParams) -> str | None:
    key = (params.meta or {}).get(META_KEY)
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST:
        raise BadArguments(f"_meta.{META_KEY} must be text of 1 to {_LONGEST} characters.")
    return key


@lru_cache(maxsize=1024)
def _lane_of_tool(tool: str) -> str:
    return _digest(["tool", tool])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
