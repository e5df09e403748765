"""Log messages on the channel of a task, beside the numbers of its events. They are sealed like every payload."""

from collections.abc import Sequence

from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.events import LogMessage
from taskmill.store.formats.sealing import Sealer

__all__ = ["is_log", "pack_log", "unpack_log"]

_MARK = b"log "
"""Written by `lua/log.lua`."""
_FIELD = "log"


def pack_log(sealer: Sealer, task_id: str, messages: Sequence[LogMessage]) -> bytes:
    """What `log.lua` publishes.

    Raises:
        TypeError, ValueError: one of them is not JSON.
    """
    return sealer.seal([[one.level, one.data, one.logger] for one in messages], task_id=task_id, field=_FIELD)


def is_log(published: bytes | None) -> bool:
    """Whether a message of a task's channel has log messages, and announces no event."""
    return published is not None and published.startswith(_MARK)


def unpack_log(sealer: Sealer, task_id: str, published: bytes) -> list[LogMessage]:
    """The log messages; none where they cannot be read."""
    try:
        found = sealer.open(published.removeprefix(_MARK), task_id=task_id, field=_FIELD)
        return [LogMessage(str(level), data, logger) for level, data, logger in found]
    except (DecryptionFailed, TypeError, ValueError):
        return []
