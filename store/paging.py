"""Pages of a list of tasks, and the cursors between them: opaque, and good for one lister's list only."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from windlass.engine.errors import BadCursor
from windlass.engine.record import TaskView

__all__ = ["Cursors", "Page"]

_MAC = 16
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest task first."""

    views: tuple[TaskView, ...]
    """Of outcomes only those of failed tasks, and short ones; questions by number only."""
    next: str | None
    """Cursor of what follows, None at the end. A page may be short, or empty, and still not be the last."""


class Cursors:
    """Writes and reads cursors; replicas that share the secret read each other's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, lister: str, score: bytes, task_id: bytes) -> str:
        """The cursor behind one entry of the lister's list."""
        place = score + b" " + task_id
        return base64.urlsafe_b64encode(self._mac(lister, place) + place).decode().rstrip("=")

    def read(self, lister: str, cursor: str) -> tuple[str, str]:
        """Score and id of the entry to go on behind.

        Raises:
            BadCursor: we did not write it, or not for this lister.
        """
        if len(cursor) > _LONGEST or not cursor.isascii():
            raise BadCursor
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadCursor from None
        mac, place = sealed[:_MAC], sealed[_MAC:]
        if not hmac.compare_digest(mac, self._mac(lister, place)):
            raise BadCursor
        score, _, task_id = place.decode().partition(" ")
        return score, task_id

    def _mac(self, lister: str, place: bytes) -> bytes:
        said = b"\0".join((b"cursor", lister.encode(), place))
        return hmac.digest(self._secret, said, hashlib.sha256)[:_MAC]
