"""How a task ended, and the JSON form of it that the store keeps."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned, outcome_from_json, outcome_to_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OUTCOMES = st.one_of(
    st.builds(Returned, st.dictionaries(st.text(), JSON, max_size=4), st.booleans()),
    st.builds(Refused, st.integers(), st.text(), JSON),
    st.builds(Failed, st.sampled_from(Fault), st.text(), st.none() | st.text()),
)


@given(OUTCOMES)
def test_an_outcome_survives_its_stored_form(outcome: Outcome) -> None:
    stored = json.dumps(outcome_to_json(outcome))

    assert outcome_from_json(json.loads(stored)) == outcome


@pytest.mark.parametrize(
    ("outcome", "stored"),
    [
        (Returned({"a": 1}), {"returned": {"a": 1}, "is_error": False}),
        (Returned({}, is_error=True), {"returned": {}, "is_error": True}),
        (Refused(-32602, "no", {"why": 1}), {"refused": {"code": -32602, "message": "no", "data": {"why": 1}}}),
        (Failed(Fault.TIMEOUT, "late", "ab"), {"broke": {"fault": "timeout", "text": "late", "reference": "ab"}}),
    ],
)
def test_the_stored_form_stays_readable_for_the_next_release(outcome: Outcome, stored: dict[str, Any]) -> None:
    """Tasks outlive a deploy, so this form is a contract."""
    assert outcome_to_json(outcome) == stored


@pytest.mark.parametrize("stored", [{}, {"outcome": 1}, {"broke": {"fault": "bored", "text": ""}}])
def test_what_is_no_stored_outcome_is_a_value_error(stored: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        outcome_from_json(stored)


def test_the_name_of_every_fault_stays() -> None:
    """They are stored, and shown as the reason."""
    assert {fault.value for fault in Fault} == {
        "timeout",
        "deadline",
        "exited",
        "died",
        "memory",
        "poisoned",
        "drained",
        "too_large",
        "not_json",
        "unreadable",
        "mismatch",
    }
