"""How a task ended, independent of any protocol: it returned, it refused, or it failed.

The JSON form made here is what the store keeps. Codes of a wire protocol must not be chosen here; a code that a
tool raised itself is passed on unchanged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, assert_never

__all__ = [
    "Failed",
    "Fault",
    "Outcome",
    "OutcomeKind",
    "Refused",
    "Returned",
    "choose_words",
    "outcome_from_json",
    "outcome_to_json",
]


Word = TypeVar("Word", bound=StrEnum)


class Fault(StrEnum):
    """Why a task has neither a result nor a protocol error of its tool."""

    TIMEOUT = "timeout"
    """The attempt ran longer than the tool's policy allows."""
    DEADLINE = "deadline"
    """The task had not ended when its policy says it must."""
    EXITED = "exited"
    """The tool tried to end its process (`sys.exit()`, or another non-Exception)."""
    DIED = "died"
    """The process of an isolated tool ended while it ran: the interpreter crashed, or it was killed from outside."""
    MEMORY = "memory"
    """An isolated tool used more memory than its limit."""
    POISONED = "poisoned"
    """Every worker that claimed the task died while running it."""
    DRAINED = "drained"
    """Workers that ran the task were stopped, again and again."""
    TOO_LARGE = "too_large"
    """The result is larger than the store accepts."""
    NOT_JSON = "not_json"
    """The result cannot be written as JSON."""
    UNREADABLE = "unreadable"
    """The stored arguments could not be decrypted or read."""
    MISMATCH = "mismatch"
    """The tool asked other questions than its record says it did."""


class OutcomeKind(StrEnum):
    """How a task ended, in one word, for people and programs that look at many tasks.

    A protocol calls the first three completed, because each has a result.
    """

    SUCCEEDED = "succeeded"
    TOOL_ERROR = "tool_error"
    """The tool returned an error of its own."""
    CRASHED = "crashed"
    """The tool raised an error that it did not choose, at its last attempt."""
    FAILED = "failed"
    """It has no result: a protocol error of the tool, or a `Fault`."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Returned:
    """The tool's own result, exactly as a foreground call would have returned it."""

    value: dict[str, Any]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A protocol error that the tool raised on purpose; code and data are the tool's."""

    code: int
    message: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No result: `text` is safe to show, `reference` stands beside the details in the worker's log."""

    fault: Fault
    text: str
    reference: str | None = None


Outcome = Returned | Refused | Failed


def choose_words(option: str, words: Iterable[str], kind: type[Word]) -> frozenset[Word]:
    """The members of `kind` that a person has named in an option of theirs.

    Raises:
        ValueError: with words for that person, where there is no such member.
    """
    try:
        return frozenset(map(kind, words))
    except ValueError:
        raise ValueError(f"{option} must be some of {', '.join(kind)}, separated by commas.") from None


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """The stored form: one key, `returned`, `refused` or `broke` (a failure; stored results have that word)."""
    match outcome:
        case Returned():
            return {"returned": outcome.value, "is_error": outcome.is_error}
        case Refused():
            return {"refused": {"code": outcome.code, "message": outcome.message, "data": outcome.data}}
        case Failed():
            return {"broke": {"fault": outcome.fault.value, "text": outcome.text, "reference": outcome.reference}}
        case _:
            assert_never(outcome)


def outcome_from_json(stored: Any) -> Outcome:
    """The inverse of `outcome_to_json`.

    Raises:
        ValueError: `stored` is none of the three forms.
    """
    match stored:
        case {"returned": dict(value)}:
            return Returned(value, bool(stored.get("is_error")))
        case {"refused": {"code": int(code), "message": str(message), **more}}:
            return Refused(code, message, more.get("data"))
        case {"broke": {"fault": str(fault), "text": str(text), **more}}:
            reference = more.get("reference")
            return Failed(Fault(fault), text, reference if isinstance(reference, str) else None)
    raise ValueError("not a stored outcome")
