"""Why a client ended its own request: a person cancelled it, or the client's call timeout passed.

Hosts send `notifications/cancelled` for both; only its `reason`, which is text for people, tells them apart.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mcp_types import RequestId

__all__ = ["is_timeout", "timed_out_requests"]

_TIMEOUT = re.compile(r"\btim(?:e|ed|es|ing)[\s_-]?out|deadline", re.IGNORECASE)
"""In the official SDKs' words: "Request timed out", "timed out after 5s", "MCP error -32001: Request timed out"."""

timed_out_requests: ContextVar[set[RequestId]] = ContextVar("timed_out_requests")
"""Of one connection over streams: the requests that the client gave up at its call timeout."""


def is_timeout(params: Mapping[str, Any] | None) -> bool:
    """Whether a `notifications/cancelled` with these parameters comes from a call timeout, not from a person."""
    reason = (params or {}).get("reason")
    return isinstance(reason, str) and _TIMEOUT.search(reason) is not None
