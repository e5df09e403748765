"""Which tasks of a list are wanted: one filter for lists, searches and what is done to many, from every side.

`filter_of` reads one from words, as the HTTP API and the command line get them. What Redis makes of it is in
`lua/page.lua`; texts are looked for in `tasks/search.py`, because they may be sealed.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskmill.engine.errors import BadArguments
from taskmill.engine.outcome import OutcomeKind, choose_words
from taskmill.engine.status import Status

__all__ = ["ANY_TASK", "FILTER_WORDS", "TaskFilter", "filter_of", "stored_client"]

FILTER_WORDS = ("status", "outcome", "tool", "queue", "caller", "client", "since", "until", "text")
"""What `filter_of` reads."""
_LONGEST_TEXT = 200
_LONGEST_NAME = 300
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_CLIENT = 64
"""Bytes: one value that is longer would double what Redis needs for a record."""
_AGO = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """A task is wanted if all of this is true of it; what is empty or None is true of every task."""

    statuses: Collection[Status] = ()
    outcomes: Collection[OutcomeKind] = ()
    tool: str | None = None
    queue: str | None = None
    """The author's name of it, or the one that Redis has."""
    caller: str | None = None
    """Its owner, as operators see it: a digest."""
    client: str | None = None
    """The program that called, as it names itself."""
    since_ms: int | None = None
    """Created then or later, milliseconds since 1970."""
    until_ms: int | None = None
    """Created before."""
    is_not_rerun: bool = False
    """Never run again."""
    text: str | None = None
    """Stands in its last message, in its error, or in the error of an attempt; small and large letters are the same."""

    @property
    def is_empty(self) -> bool:
        """Whether it is true of every task."""
        return not self.as_words() and not self.is_not_rerun

    def as_words(self) -> dict[str, str]:
        """The words that `filter_of` makes this of again."""
        times = {"since": self.since_ms, "until": self.until_ms}
        words = {
            "status": ",".join(sorted(self.statuses)),
            "outcome": ",".join(sorted(self.outcomes)),
            "tool": self.tool,
            "queue": self.queue,
            "caller": self.caller,
            "client": self.client,
            **{name: None if ms is None else _moment(ms) for name, ms in times.items()},
            "text": self.text,
        }
        return {name: word for name, word in words.items() if word}

    def as_json(self) -> str:
        """What the script `page` reads: all but the text."""
        wanted: dict[str, Any] = {
            "status": dict.fromkeys(self.statuses, True),
            "outcome": dict.fromkeys(self.outcomes, True),
            "tool": self.tool,
            "queue": self.queue,
            "caller": self.caller,
            "client": None if self.client is None else stored_client(self.client),
            "since": self.since_ms,
            "until": self.until_ms,
            "not_rerun": self.is_not_rerun or None,
        }
        return json.dumps({name: value for name, value in wanted.items() if value not in (None, {})})


ANY_TASK = TaskFilter()
"""True of every task."""


def filter_of(words: Mapping[str, object], *, now: datetime | None = None) -> TaskFilter:
    """The filter that these words give; `since` and `until` are ISO 8601, or how long ago: 30s, 5m, 2h, 7d.

    Raises:
        BadArguments: a word that no filter has, or one that makes no sense; the message says what to give.
    """
    if unknown := sorted(set(words) - set(FILTER_WORDS)):
        raise BadArguments(f"A filter has {', '.join(FILTER_WORDS)}, and no {unknown[0]!r}.")
    given = {name: _text(name, value) for name, value in words.items() if value not in (None, "", [])}
    now = now or datetime.now(UTC)
    try:
        return TaskFilter(
            statuses=choose_words("status", _split(given, "status"), Status),
            outcomes=choose_words("outcome", _split(given, "outcome"), OutcomeKind),
            tool=given.get("tool"),
            queue=given.get("queue"),
            caller=given.get("caller"),
            client=given.get("client"),
            since_ms=_time(given, "since", now),
            until_ms=_time(given, "until", now),
            text=given.get("text"),
        )
    except ValueError as exc:
        raise BadArguments(str(exc)) from None


def stored_client(name: str) -> str:
    """The name of a client's program as it is stored with its tasks: half characters replaced, and cut."""
    return name.strip().encode("utf-8", "replace")[:_LONGEST_CLIENT].decode("utf-8", "ignore")


def _text(name: str, value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    if not isinstance(value, str):
        raise BadArguments(f"{name} must be a text.")
    most = _LONGEST_TEXT if name == "text" else _LONGEST_NAME
    if len(value) > most:
        raise BadArguments(f"{name} must have {most} characters at most.")
    return value


def _split(given: Mapping[str, str], name: str) -> list[str]:
    return [word.strip() for word in given.get(name, "").split(",") if word.strip()]


def _time(given: Mapping[str, str], name: str, now: datetime) -> int | None:
    """Milliseconds since 1970.

    Raises:
        ValueError: it is neither a date nor a length of time.
    """
    word = given.get(name)
    if word is None:
        return None
    if ago := _AGO.fullmatch(word):
        return max(0, int(now.timestamp() * 1000) - int(ago[1]) * _UNITS[ago[2]] * 1000)
    try:
        moment = datetime.fromisoformat(word)
        return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{name} must be a date such as 2026-01-31T09:00:00Z, or how long ago: 30s, 5m, 2h, 7d."
        ) from None


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
