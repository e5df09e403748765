"""The figures of an app by tool, as Redis keeps them: sums of what all its processes have counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taskmill.store.metrics.counts import Counted, Row

__all__ = ["OTHER", "Figures", "field_of", "figures_of", "figures_of_all"]

OTHER = "other"
"""In the place of a tool's name, when as many tools have figures as the settings permit."""
_WORDS = frozenset(Counted)
_TOOL = "tool "
"""Begins the field of each tool that has figures of its own."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one app."""

    rows: Mapping[Row, int]
    """Only grow."""
    tools: frozenset[str]
    """Those that have figures of their own."""


def field_of(row: Row) -> str:
    """The field in which a row is kept. A tool's name, which may contain blanks, stands last."""
    return " ".join(row)


def figures_of(kept: Mapping[bytes, bytes]) -> Figures:
    """The figures in the hash of an app; a row of a later version, or of another program, is left out."""
    rows: dict[Row, int] = {}
    tools: set[str] = set()
    for name, value in kept.items():
        field = name.decode("utf-8", "replace")
        if field.startswith(_TOOL):
            tools.add(field.removeprefix(_TOOL))
            continue
        what, *rest = field.split(" ", 3)
        if len(rest) == 3 and what in _WORDS and value.isdigit():
            rows[Counted(what), rest[0], rest[1], rest[2]] = int(value)
    return Figures(rows, frozenset(tools))


def figures_of_all(parts: Iterable[Figures]) -> Figures:
    """The sums of several shards."""
    rows: Counter[Row] = Counter()
    tools: set[str] = set()
    for part in parts:
        rows.update(part.rows)
        tools |= part.tools
    return Figures(dict(rows), frozenset(tools))
