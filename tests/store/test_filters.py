"""A filter from words: what a person writes is understood, or refused in words; and it can be written again."""

from datetime import UTC, datetime

import pytest

from taskmill.engine.errors import BadArguments
from taskmill.engine.outcome import OutcomeKind
from taskmill.engine.status import Status
from taskmill.store.formats.filters import ANY_TASK, TaskFilter, filter_of

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def test_words_become_a_filter_that_can_be_written_again() -> None:
    words = {
        "status": "failed, completed",
        "outcome": ["crashed"],
        "tool": "import",
        "queue": "slow",
        "caller": "ann",
        "client": "claude-code",
        "since": "2h",
        "until": "2026-01-31T08:30:00",
        "text": "disk full",
    }

    found = filter_of(words, now=NOW)

    assert found == TaskFilter(
        statuses=frozenset({Status.FAILED, Status.COMPLETED}),
        outcomes=frozenset({OutcomeKind.CRASHED}),
        tool="import",
        queue="slow",
        caller="ann",
        client="claude-code",
        since_ms=NOW_MS - 7_200_000,
        until_ms=NOW_MS - 1_800_000,
        text="disk full",
    )
    assert filter_of(found.as_words()) == found


def test_no_words_are_a_filter_that_is_true_of_every_task() -> None:
    assert filter_of({"status": "", "tool": None}).is_empty
    assert ANY_TASK.is_empty
    assert not filter_of({"tool": "import"}).is_empty


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"state": "failed"}, "no 'state'"),
        ({"status": "broken"}, "status must be some of pending"),
        ({"since": "yesterday"}, "since must be a date"),
        ({"until": "2h ago"}, "until must be a date"),
        ({"since": "99999-01-01"}, "since must be a date"),
        ({"text": "x" * 201}, "200 characters"),
        ({"tool": 3}, "tool must be a text"),
        ({"queue": {"a": 1}}, "queue must be a text"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_with_what_to_write(words: dict[str, object], told: str) -> None:
    with pytest.raises(BadArguments, match=told):
        filter_of(words)
