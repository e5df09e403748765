"""Log messages of a task as notifications, where the client can be sent them: `notifications/message`.

Before 2026 a client may say from which level on (`logging/setLevel`), and the session keeps that; from 2026 on each
request says it, and without it none are sent. A task of the 2026 extension has no stream for them.
"""

from collections.abc import Mapping
from typing import Any, get_args

from mcp_types import LOG_LEVEL_META_KEY, LoggingLevel
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.events import LogMessage

__all__ = ["LOG_LEVEL", "is_wanted", "lowest_level", "message_notification"]

LOG_LEVEL = "taskmill/logLevel"
"""Beside what a session keeps of its client, and in the state of a connection: the level of its `logging/setLevel`."""
_LEVELS = get_args(LoggingLevel)
"""From the least severe on."""


def lowest_level(version: str, kept: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> str | None:
    """From which level on messages are sent, None = none are. `kept`: has LOG_LEVEL; `meta`: the request's."""
    if version in MODERN_PROTOCOL_VERSIONS:
        return (meta or {}).get(LOG_LEVEL_META_KEY)
    level: str = kept.get(LOG_LEVEL, _LEVELS[0])
    return level


def is_wanted(message: LogMessage, lowest: str | None) -> bool:
    """Whether a message is to be sent to a client that wants those of this level and above."""
    if lowest not in _LEVELS or message.level not in _LEVELS:
        return False
    return _LEVELS.index(message.level) >= _LEVELS.index(lowest)


def message_notification(message: LogMessage, *, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`notifications/message` as a JSON-RPC message."""
    params: dict[str, Any] = {
        "level": message.level,
        "data": message.data,
        **({} if message.logger is None else {"logger": message.logger}),
        **({} if meta is None else {"_meta": dict(meta)}),
    }
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
