"""How often each principal does something in this process: a token bucket each. Other replicas count for themselves."""

from time import monotonic

from taskmill.engine.errors import QuotaExceeded

__all__ = ["BURST", "Rates"]

BURST = 10
"""Seconds' worth that a principal which was quiet may do at once."""
_LONGEST_WAIT = 86400
"""Seconds that a refusal names, at most."""
_KEPT = 10_000
"""Principals that are remembered; beyond that, those that were quiet for as long as a burst takes are forgotten."""


class Rates:
    """Of one kind of thing, by principal."""

    def __init__(self, name: str, what: str) -> None:
        """`name`: of the limit; `what`: what is counted, as a plural."""
        self._name = name
        self._what = what
        self._left: dict[str, tuple[float, float]] = {}
        """Tokens that are left, and when."""

    def take(self, principal: str, rate: float) -> None:
        """Count one for a principal. `rate`: a second, on average; 0 = no limit.

        Raises:
            QuotaExceeded: it did too many.
        """
        if not rate:
            return
        left, now = self._check(principal, rate)
        if len(self._left) >= _KEPT:
            self._left = {who: one for who, one in self._left.items() if now - one[1] < BURST}
        self._left[principal] = left - 1, now

    def check(self, principal: str, rate: float) -> None:
        """The same without counting: whether `take` would refuse now."""
        if rate:
            self._check(principal, rate)

    def _check(self, principal: str, rate: float) -> tuple[float, float]:
        """How many are left, and the time."""
        now = monotonic()
        most = max(1.0, rate * BURST)
        left, since = self._left.get(principal, (most, now))
        left = min(most, left + (now - since) * rate)
        if left < 1:
            wait = max(1, round(min((1 - left) / rate, _LONGEST_WAIT)))
            words = f"You sent more than {rate:g} {self._what} a second for a while, the limit. Try again in {wait} s."
            raise QuotaExceeded(words, limit=self._name, allowed=rate, used=rate, retry_after=wait)
        return left, now
