"""A string of bytes as a row of choices: whoever has the bytes - Hypothesis, a fuzzer - has what is made of them.

Zeros choose the first of everything, so that a failing input shrinks towards the plainest one.
"""

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """Choices from bytes; where they end, the rest is zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """A number from 0 on, below a bound of at most 65,536."""
        width = 1 if below <= 256 else 2
        taken = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(taken, "big") % below

    def pick(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[self.number(len(options))]

    def chance(self, percent: int) -> bool:
        """True that often; never where the bytes have ended."""
        return self.number(256) >= 256 - percent * 256 // 100

    @property
    def rest(self) -> bytes:
        """What nobody has chosen from yet."""
        return self._data[self._at :]
