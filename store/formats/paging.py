"""Pages of a list of tasks, and the cursors between them: opaque, and valid for one owner's list only."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskmill.engine.errors import BadCursor
from taskmill.engine.record import TaskView
from taskmill.store.formats.filters import TaskFilter

__all__ = [
    "ENTRIES_READ",
    "LONGEST_PAGE",
    "MOST_PARTS",
    "Cursors",
    "Page",
    "Position",
    "Slice",
    "merged",
    "page_args",
    "page_size",
]

LONGEST_PAGE = 200
"""Tasks on a page at most."""
ENTRIES_READ = 1000
"""Entries of a list that are read for one page, at most, to find tasks of the wanted kind."""
MOST_PARTS = 10
"""Parts of a list, of so many entries each, that are read for one page at most."""
_SHORT_OUTCOME = 16 * 1024
"""Bytes of a failed task's outcome up to which a page shows it."""
_MAC = 16
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest task first."""

    views: tuple[TaskView, ...]
    """Of outcomes only those of failed tasks, and short ones; questions by number only; no estimate of the wait."""
    next: str | None
    """Cursor of what follows, None at the end. A page may be short, or empty, and still not be the last."""
    unreachable: tuple[str, ...] = ()
    """Names of shards whose tasks are left out, because they do not answer."""


Position = tuple[bytes, bytes]
"""Score and id of an entry of a list."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one list."""

    rows: tuple[tuple[Position, TaskView], ...]
    """Newest first."""
    behind: Position | None
    """The last entry that was read, None at the end of the list."""
    unreachable: tuple[str, ...] = ()
    """As of a page."""

    @property
    def views(self) -> tuple[TaskView, ...]:
        """The tasks alone."""
        return tuple(view for _, view in self.rows)


def merged(slices: Sequence[Slice], limit: int, *, unreachable: tuple[str, ...]) -> Slice:
    """One slice of at most `limit` rows, newest first, of several lists that were read from the same position on.

    It ends where the first of them ends that has more: what follows there is not known yet.
    """
    most = page_size(limit)
    ends = [part.behind for part in slices if part.behind is not None]
    end = max(ends, key=_order, default=None)
    rows = sorted((row for part in slices for row in part.rows), key=lambda row: _order(row[0]), reverse=True)
    known = [row for row in rows if end is None or _order(row[0]) >= _order(end)]
    if len(known) > most:
        return Slice(tuple(known[:most]), known[most - 1][0], unreachable)
    return Slice(tuple(known), end, unreachable)


def _order(position: Position) -> tuple[float, bytes]:
    return float(position[0]), position[1]


def page_size(limit: int) -> int:
    """How many tasks a page of `limit` tasks has at most."""
    return max(1, min(limit, LONGEST_PAGE))


def page_args(
    after: tuple[str, str],
    most: int,
    where: TaskFilter,
    *,
    part: str = "rows",
    is_by_end: bool = False,
    named: Sequence[Position] = (),
    hint: str = "",
) -> list[Any]:
    """ARGV of `page`; `after`: score and id of the entry to continue after. `part`: what is read of each task.

    `is_by_end`: the list is in the order of ends, not of creations. `named`: the entries to read, instead of the list.
    `hint`: texts that surely lack it are not read.
    """
    highest = "" if is_by_end or where.until_ms is None else where.until_ms
    pairs = [word for score, task_id in named for word in (task_id, score)]
    return [*after, most, ENTRIES_READ, where.as_json(), _SHORT_OUTCOME, part, highest, hint, *pairs]


class Cursors:
    """Writes and reads cursors; replicas that share a secret read each other's."""

    def __init__(self, secret: bytes, *others: bytes) -> None:
        """Cursors are written with `secret`, and read if they were written with any."""
        self._secrets = (secret, *others)

    def write(self, list_owner: str, score: bytes, task_id: bytes) -> str:
        """The cursor after one entry of the owner's list."""
        position = score + b" " + task_id
        return (
            base64.urlsafe_b64encode(self._mac(self._secrets[0], list_owner, position) + position).decode().rstrip("=")
        )

    def read(self, list_owner: str, cursor: str | None) -> tuple[str, str]:
        """Score and id of the entry to continue after; empty for None, the beginning.

        Raises:
            BadCursor: we did not write it, or not for this owner.
        """
        if cursor is None:
            return "", ""
        if len(cursor) > _LONGEST or not cursor.isascii():
            raise BadCursor
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadCursor from None
        mac, position = sealed[:_MAC], sealed[_MAC:]
        if not any(hmac.compare_digest(mac, self._mac(one, list_owner, position)) for one in self._secrets):
            raise BadCursor
        score, _, task_id = position.decode().partition(" ")
        return score, task_id

    @staticmethod
    def _mac(secret: bytes, list_owner: str, position: bytes) -> bytes:
        signed = b"\0".join((b"cursor", list_owner.encode(), position))
        return hmac.digest(secret, signed, hashlib.sha256)[:_MAC]
