"""The attempts of a task as JSON: its history, and the errors that are kept. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskmill.engine.events import FINISHING, AttemptError, Event
from taskmill.engine.status import Move
from taskmill.server.protocol.shapes_2026 import iso

__all__ = ["attempts_json"]

_MOST = 100
_DIED = "worker_died"


def attempts_json(
    events: Sequence[Event], errors: Mapping[int, AttemptError], *, to_operator: bool = True
) -> list[dict[str, Any]]:
    """The last hundred attempts, oldest first. `ended`: how, in one word; None while it runs.

    Only operators see which worker it was; `errors` are those that the reader may see.
    """
    attempts: dict[int, dict[str, Any]] = {}
    last: dict[str, Any] | None = None
    for event in events:
        if last is not None and (ended := _ended(event)):
            last["ended"], last["ended_at"] = ended, iso(event.at_ms)
            last = None
        if event.move in (Move.CLAIM, Move.RECLAIM):
            worker = event.facts.get("worker") if to_operator else None
            last = _attempt(int(event.facts["attempt"]), worker, iso(event.at_ms))
            attempts[last["attempt"]] = last
    for number, error in errors.items():
        started_at = iso(error.started_ms) if error.started_ms else None
        # Without an event where the history has lost its oldest ones.
        attempt = attempts.setdefault(number, _attempt(number, error.worker or None, started_at))
        attempt["seconds"] = error.seconds if error.started_ms else None
        attempt["error"] = {
            "type": error.type,
            "text": error.text,
            "traceback": error.traceback,
            "host": error.host,
            "pid": error.pid,
            "reference": error.reference,
        }
    return [attempts[number] for number in sorted(attempts)[-_MOST:]]


def _attempt(number: int, worker: str | None, started_at: str | None) -> dict[str, Any]:
    return {
        "attempt": number,
        "worker": worker,
        "started_at": started_at,
        "ended_at": None,
        "seconds": None,
        "ended": None,
        "error": None,
    }


def _ended(event: Event) -> str | None:
    """How the running attempt ended by this event; None if it goes on."""
    reason = event.facts.get("reason")
    if event.move is Move.RECLAIM or reason == "poisoned":
        return _DIED
    if event.move is Move.PARK:
        return "parked"
    if event.move is Move.COMPLETE and not reason:
        return "succeeded"
    return str(reason or event.move) if event.move is Move.RELEASE or event.move in FINISHING else None
