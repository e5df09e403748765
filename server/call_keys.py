"""The keys of one call, as its tool's policy says: what makes it the same call as another.

Knows the request and the policy, not the store.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mcp_types import CallToolRequestParams
from pydantic_core import to_jsonable_python

from windlass.engine.errors import BadArguments
from windlass.engine.key import key_of
from windlass.engine.policy import FROM_META, TaskConfig

__all__ = ["META_KEY", "Once", "is_shared", "once"]

META_KEY = "io.windlass/idempotencyKey"
"""Where a client names its key: `_meta` of the call."""
_LONGEST = 256

Once = tuple[str | None, str]
"""The idempotency key, None for none, and a digest of what it stands for; both of fixed length, nothing readable."""


def once(policy: TaskConfig, params: CallToolRequestParams, arguments: Mapping[str, Any], principal: str) -> Once:
    """What makes this call the same as an earlier one. `arguments`: validated.

    Raises:
        BadArguments: the client's key is not 1 to 256 characters of text.
        Exception: whatever the author's function raised.
    """
    source = policy.idempotency
    if source is None:
        return None, ""
    plain = {name: to_jsonable_python(value, fallback=repr) for name, value in arguments.items()}
    if source == FROM_META:
        key = _named(params)
        # The client may err: the same key for another call must not be answered with this one's task.
        stands_for = _digest(plain)
    else:
        key, stands_for = key_of(source, arguments, plain, principal), ""
    return (None, "") if key is None else (_digest([params.name, key]), stands_for)


def is_shared(policy: TaskConfig, params: CallToolRequestParams) -> bool:
    """Whether other calls may have the same task, so that this one's end must not be the task's."""
    if policy.idempotency == FROM_META:
        return META_KEY in (params.meta or {})
    return policy.idempotency is not None


def _named(params: CallToolRequestParams) -> str | None:
    key = (params.meta or {}).get(META_KEY)
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST:
        raise BadArguments(f"_meta.{META_KEY} must be text of 1 to {_LONGEST} characters.")
    return key


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
