"""What a case is made of. The cases themselves have a file each."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.contenders import Contender
from bench.figures import Figure
from bench.plan import Plan

__all__ = ["Case"]

Values = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A way to measure every one of some contenders."""

    name: str
    contenders: tuple[Contender, ...]
    figures: tuple[Figure, ...]
    measure: Callable[[Contender, Plan], Values]
    """Figure -> value, from processes and a Redis of this measurement's own."""
