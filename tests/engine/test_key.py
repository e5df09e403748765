"""Keys of a call: the same values give the same key, different ones never do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.errors import PolicyError
from taskmill.engine.key import KeySource, check_arguments, key_of

VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)


def key(source: KeySource, principal: str = "ann", **plain: Any) -> str | None:
    """The key of a call with these arguments."""
    return key_of(source, plain, plain, principal)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("repo:{path}", 'repo:"a/b"'),
        ("{path}-{count}", '"a/b"-(7)'),
        ("user {principal}", 'user "ann"'),
        ("gpu", "gpu"),
        ("{{literal}} {count}", "{literal} (7)"),
        (["path", "count"], '["a/b",7]'),
        (("principal",), '["ann"]'),
        (lambda arguments: arguments["path"].upper(), "A/B"),
        (lambda _arguments: None, None),
    ],
    ids=lambda value: "a function" if callable(value) else str(value),
)
def test_a_key_is_made_of_a_template_names_or_a_function(source: KeySource, expected: str | None) -> None:
    assert key(source, path="a/b", count=7) == expected


@pytest.mark.parametrize("source", ["{a}{b}", "{a}-{b}", ["a", "b"]], ids=str)
@given(first=st.tuples(VALUES, VALUES), second=st.tuples(VALUES, VALUES))
def test_different_values_never_give_the_same_key(
    source: KeySource, first: tuple[Any, Any], second: tuple[Any, Any]
) -> None:
    same = [type(value) for value in first] == [type(value) for value in second] and first == second
    assert (key(source, a=first[0], b=first[1]) == key(source, a=second[0], b=second[1])) == same


def test_the_order_of_the_names_in_an_object_does_not_matter() -> None:
    assert key("{a}", a={"x": 1, "y": 2}) == key("{a}", a={"y": 2, "x": 1})


def test_a_function_that_returns_no_text_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="must return str or None, not int"):
        key(lambda _arguments: 7, a=1)  # type: ignore[arg-type, return-value]  # what an author may write


def test_a_template_without_braces_that_names_an_argument_is_refused_with_the_braces_to_add() -> None:
    with pytest.raises(PolicyError, match=r"write '\{user\}' for its value"):
        check_arguments("user", ["user"], what="concurrency_key")
