"""How an attempt ends, as its worker will tell the store. Only data; who decides is `verdict.py`."""

from dataclasses import dataclass
from datetime import timedelta

from taskmill.engine.outcome import Outcome
from taskmill.engine.record import Progress
from taskmill.store.claims.claims import Claimed

__all__ = ["Ending", "Finish", "Park", "Release"]


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends here."""

    task: Claimed
    outcome: Outcome
    reason: str | None = None
    """Why there is no success, None = what the outcome says."""
    seconds: float = 0.0
    progress: Progress | None = None
    """What the tool said last, if that is not surely written."""


@dataclass(frozen=True, slots=True)
class Release:
    """The task goes back to its queue."""

    task: Claimed
    delay: timedelta
    failures: int
    reason: str
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """The task leaves this worker's memory until its questions are answered."""

    task: Claimed
    progress: Progress | None = None


Ending = Finish | Release | Park
