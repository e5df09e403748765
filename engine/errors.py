"""Every error Taskmill raises, in one hierarchy that says whose fault it is.

`CallerError`: the client's request is wrong. `AuthorError`: the author's tool is. `OperatorError`: the installation
or Taskmill itself. What a protocol makes of them (codes, HTTP statuses) lives in `server/`, not here.
"""

import inspect
from typing import Any

__all__ = [
    "ArtifactTooLarge",
    "ArtifactsUnavailable",
    "AttemptEnded",
    "AuthenticationUnavailable",
    "AuthorError",
    "BadArguments",
    "BadCursor",
    "CallerError",
    "ChunkRefused",
    "DecryptionFailed",
    "DuplicateTool",
    "FenceLost",
    "IdempotencyKeyReused",
    "IllegalMove",
    "LimitExceeded",
    "MemoryExceeded",
    "NoRedisServer",
    "NotInTask",
    "NotRepeatable",
    "NotSerializable",
    "OperatorError",
    "PayloadTooLarge",
    "PolicyError",
    "ProcessDied",
    "QuestionMismatch",
    "QuotaExceeded",
    "RecordMismatch",
    "RedisUnfit",
    "ScopeMissing",
    "SealKeyAwaited",
    "SealKeyMissing",
    "ServerLoadError",
    "SettingsError",
    "StateUnavailable",
    "StepMismatch",
    "StepMisused",
    "StoreFull",
    "StoreUnavailable",
    "TaskNotFound",
    "TaskmillError",
    "TooLargeToStore",
    "TooManySessions",
    "ToolUnfit",
    "UnsafeBinding",
]


class TaskmillError(Exception):
    """Something went wrong in Taskmill."""

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        """`message` defaults to the class docstring; `facts` are kept as data for logs and replies."""
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))
        self.facts = facts


class CallerError(TaskmillError):
    """The request cannot be served as it was sent."""


class TaskNotFound(CallerError):
    """Task not found: it never existed, has expired, or belongs to another caller."""


class NameUnknown(CallerError):
    """There is no such queue, tool or worker."""


class QuotaExceeded(CallerError):
    """A limit of this caller is reached: wait a little."""

    # `facts` may have `limit` (its name), `allowed`, `used` and `retry_after`, seconds.


class TooManySessions(QuotaExceeded):
    """Too many sessions are open: try again later."""


class PayloadTooLarge(CallerError):
    """The arguments are larger than this server accepts."""


class BadArguments(CallerError):
    """The arguments do not match the tool's input schema."""


class BadCursor(CallerError):
    """The cursor is not one of this list. Start again without one."""


class NotRepeatable(CallerError):
    """The task cannot be run again."""


class ScopeMissing(CallerError):
    """The access token was not granted a scope that this tool needs."""


class IdempotencyKeyReused(CallerError):
    """This idempotency key was used for a call with other arguments: send a new key with a new call."""


class AuthorError(TaskmillError):
    """The tool, or the module it is in, cannot work as written."""


class ToolUnfit(AuthorError):
    """The function cannot be a tool as it is written."""


class PolicyError(AuthorError):
    """The tool's task policy contradicts itself."""


class DuplicateTool(AuthorError):
    """Two tools have the same name."""


class RecordMismatch(AuthorError):
    """The tool no longer does what its record says it did, so what was recorded cannot be read back."""


class StepMismatch(RecordMismatch):
    """The tool runs another step than the first time it ran, so the recorded result does not fit."""


class QuestionMismatch(RecordMismatch):
    """The tool asked something else than the first time it ran, so the recorded answer does not fit."""


class AttemptEnded(AuthorError):
    """This attempt has ended: its tool returned, or it was stopped. Emit and attach before the tool returns."""


class NotInTask(AuthorError):
    """Only a task has a place for this, and the tool was called outside of one."""


class ChunkRefused(AuthorError):
    """What the tool emitted cannot be kept: it is too large, or not JSON."""


class ArtifactTooLarge(AuthorError):
    """The artifact is larger than this installation keeps."""


class StepMisused(AuthorError):
    """Steps and questions stand one behind the other or side by side, never inside each other."""


class NotSerializable(AuthorError):
    """A step's result, the task's state, or a value of a caller's state cannot be kept: it is not JSON."""


class TooLargeToStore(AuthorError):
    """A step's result, the task's state, or a value of a caller's state is too large to be kept."""


class StateUnavailable(AuthorError):
    """No values can be kept for this caller. Its text is shown to the caller: who calls decides it."""


class ServerLoadError(AuthorError):
    """The server object could not be loaded."""


class ProcessDied(AuthorError):
    """The process of an isolated tool ended under it."""


class LimitExceeded(ProcessDied):
    """An isolated tool used more than one of its limits allows."""


class MemoryExceeded(LimitExceeded):
    """An isolated tool used more memory than its limit."""


class OperatorError(TaskmillError):
    """The installation needs attention."""


class StoreUnavailable(OperatorError):
    """The task store cannot be reached right now. Nothing was lost; try again in a moment."""


class StoreFull(StoreUnavailable):
    """The task store is full: it takes no new tasks right now. Try again later."""


class AuthenticationUnavailable(OperatorError):
    """Access tokens cannot be checked right now: try again in a moment."""


class ArtifactsUnavailable(OperatorError):
    """The directory or bucket of artifacts cannot be used right now."""


class RedisUnfit(OperatorError):
    """This Redis cannot keep the promises Taskmill makes."""


class NoRedisServer(OperatorError):
    """No Redis server was found."""


class UnsafeBinding(OperatorError):
    """Binding beyond localhost needs the list of host names that clients may use."""


class SettingsError(OperatorError):
    """A setting has a value that cannot work."""


class DecryptionFailed(OperatorError):
    """A stored payload could not be opened: its key is not in the key ring, or the bytes were changed."""


class SealKeyMissing(DecryptionFailed):
    """A stored payload was sealed with a key that this process does not have; another process may have it."""


class SealKeyAwaited(SealKeyMissing, StoreUnavailable):
    """A stored payload was sealed with a key that this process has asked for and not got yet. Try again in a moment."""


class FenceLost(TaskmillError):
    """Another worker owns this task now, or it has ended; this attempt's word no longer counts."""


class IllegalMove(TaskmillError):
    """The task is not in a state from which this move is allowed."""
