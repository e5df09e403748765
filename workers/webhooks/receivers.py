"""Which receivers have a message now, and which have to wait: none may hold up the others.

Of one worker, in memory: another worker finds out for itself. What is sent, and what comes of it, is in `deliverer.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import httpx2

from taskmill.workers.webhooks.requests import Answer

__all__ = ["AT_ONCE", "Receivers", "Turn"]

AT_ONCE = 16
"""Messages that a worker sends at the same time."""
_OF_ONE, _OF_A_SLOW_ONE = 12, 4
"""How many of these one receiver has at most; one that takes longer than `_SLOW` seconds has fewer."""
_SLOW = 1.0
_LONGEST_REST = 60.0
"""Seconds for which a receiver that does not answer gets nothing, and that a message waits for its turn, at most."""


@dataclass(frozen=True, slots=True)
class Turn:
    """When a message is tried that cannot be sent now."""

    seconds: float
    why: str


@dataclass(slots=True)
class _Receiver:
    busy: int = 0
    """Messages that it has not answered yet."""
    seconds: float = 0.1
    """How long it took for the last one."""
    put_off: int = 0
    """Messages that were put off since the last one was sent."""
    silent: int = 0
    """How often in a row it did not answer."""
    rests_until: float = 0.0
    why: str = ""
    """Why it rests."""


class Receivers:
    """The receivers of one worker, by address."""

    def __init__(self) -> None:
        self._known: dict[str, _Receiver] = {}

    def turn(self, url: str) -> Turn | None:
        """When a message may be tried; None = now."""
        one = self._known.setdefault(url, _Receiver())
        if (rest := one.rests_until - monotonic()) > 0:
            return Turn(rest, one.why)
        most = _OF_A_SLOW_ONE if one.seconds > _SLOW else _OF_ONE
        if one.busy < most:
            one.put_off = 0
            return None
        one.put_off += 1
        wait = min(_LONGEST_REST, one.seconds * (1 + one.put_off / most))
        return Turn(wait, f"{httpx2.URL(url).host} has other messages first, and is slow to answer")

    @contextmanager
    def sending(self, url: str) -> Iterator[None]:
        """A message is sent there inside the block."""
        one, since = self._known.setdefault(url, _Receiver()), monotonic()
        one.busy += 1
        try:
            yield
        finally:
            one.busy -= 1
            one.seconds = monotonic() - since

    def note(self, url: str, answer: Answer) -> None:
        """What came of a message: one who does not answer at all rests, longer each time."""
        one = self._known.setdefault(url, _Receiver())
        if answer.status is not None:
            one.silent, one.rests_until = 0, 0.0
        else:
            one.silent += 1
            one.rests_until = monotonic() + min(2.0 ** min(one.silent - 1, 10), _LONGEST_REST)
            one.why = answer.why
