"""Changes in a JSON text: the requested member changes, and no other character."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.cli.install.json_editor import remove_member, set_member, value_at
from taskmill.cli.install.json_parser import JsonError

PATH = ("servers", "mine")
ENTRY = {"command": "taskmill", "args": ["stdio", "server.py"]}

keys = st.text(max_size=4) | st.sampled_from(["servers", "mine", "other"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
documents = st.builds(
    lambda before, servers, after: before | {"servers": servers} | after,
    st.dictionaries(keys.filter(lambda key: key != "servers"), values, max_size=3),
    st.dictionaries(keys.filter(lambda key: key != "mine"), values, max_size=3),
    st.dictionaries(keys.filter(lambda key: key != "servers"), values, max_size=3),
)
layouts = st.sampled_from([None, 0, 2, 4, "\t"])
lines = st.sampled_from(["\n", "\r\n"])


@given(documents, layouts, lines, st.booleans())
def test_setting_and_removing_leave_everything_else(document: Any, indent: Any, line: str, ends: bool) -> None:
    text = (json.dumps(document, indent=indent, ensure_ascii=False) + ("\n" if ends else "")).replace("\n", line)
    added = set_member(text, PATH, ENTRY, allow_comments=False)

    wanted = document | {"servers": document["servers"] | {"mine": ENTRY}}
    assert json.loads(added) == wanted
    assert list(json.loads(added)["servers"]) == [*document["servers"], "mine"]
    assert set_member(added, PATH, ENTRY, allow_comments=False) == added, "the same again is no change"
    assert remove_member(added, PATH, allow_comments=False) == text, "and it can be undone to the character"


@given(documents, layouts)
def test_members_can_be_removed_and_replaced_anywhere(document: Any, indent: Any) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    for key in document["servers"]:
        left = {name: value for name, value in document["servers"].items() if name != key}
        assert json.loads(remove_member(text, ("servers", key), allow_comments=False)) == document | {"servers": left}
        replaced = set_member(text, ("servers", key), ENTRY, allow_comments=False)
        assert json.loads(replaced) == document | {"servers": document["servers"] | {key: ENTRY}}
        assert list(json.loads(replaced)["servers"]) == list(document["servers"])


@given(values, layouts)
def test_the_parser_agrees_with_the_standard_library(value: Any, indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    assert value_at(text, (), None, allow_comments=False) == value
    assert value_at(text, (), None, allow_comments=True) == value


@given(st.text(alphabet='{}[]",:/*- \n1e.truefalsn\\', max_size=30))
def test_it_accepts_what_the_standard_library_accepts_and_nothing_else(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=lambda word: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(JsonError):
            value_at(text, (), None, allow_comments=False)
    else:
        assert value_at(text, (), None, allow_comments=False) == expected


COMMENTED = """\
// Servers of this workspace
{
\t"inputs": [], /* none yet */
\t"servers": {
\t\t// the first
\t\t"one": {
\t\t\t"command": "one", // not "two"
\t\t},
\t\t"url": {"url": "http://x//y"}, // a comment of url
\t},
}
// the end
"""


def test_comments_and_commas_of_vs_code_are_kept() -> None:
    added = set_member(COMMENTED, PATH, ENTRY, allow_comments=True)

    entry = (
        '\t\t"mine": {\n\t\t\t"command": "taskmill",\n\t\t\t"args": [\n\t\t\t\t"stdio",\n\t\t\t\t"server.py"\n\t\t\t]\n'
        "\t\t},\n"
    )
    assert added == COMMENTED.replace("// a comment of url\n", f"// a comment of url\n{entry}")
    assert remove_member(added, PATH, allow_comments=True) == COMMENTED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"servers": {\n  // none\n}}', '{"servers": {\n  "mine": 1\n  // none\n}}'),
        ('{"servers": { /* none */ }}', '{"servers": {\n  "mine": 1 /* none */ \n}}'),
        ('{\n  "a": 1 // one\n}', '{\n  "a": 1, // one\n  "servers": {\n    "mine": 1\n  }\n}'),
        ("{}", '{\n  "servers": {\n    "mine": 1\n  }\n}'),
        ("{\n}\n", '{\n  "servers": {\n    "mine": 1\n  }\n}\n'),
        ('{"a": 1}', '{"a": 1, "servers": {"mine": 1}}'),
    ],
)
def test_a_first_member_finds_its_place(before: str, after: str) -> None:
    assert set_member(before, PATH, 1, allow_comments=True) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "a": 1, // one\n  // of mine\n  "mine": 2\n}', '{\n  "a": 1 // one\n  // of mine\n}'),
        ('{\n  "mine": 2, // two\n  "a": 1\n}', '{\n  "a": 1\n}'),
        ('{ "a": 1,\n  "mine": 2 }', '{ "a": 1 }'),
        ('{ "mine": 2,\n  "a": 1 }', '{ "a": 1 }'),
        ('{ "mine": 2, }', "{}"),
        ('{\n  // only\n  "mine": 2,\n}', "{\n  // only\n}"),
        ('{ "a": 1, /* b */ "mine": 2 }', '{ "a": 1 /* b */  }'),
    ],
)
def test_a_removed_member_takes_its_comma_with_it(before: str, after: str) -> None:
    assert remove_member(before, ("mine",), allow_comments=True) == after
    assert value_at(after, (), None, allow_comments=True) == {
        key: value for key, value in value_at(before, (), None, allow_comments=True).items() if key != "mine"
    }


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("", "line 1, column 1: expecting value"),
        ('{\n  "a": 1,\n}', "line 2, column 9: a comma before the closing bracket"),
        ("{\n  // no\n}", "line 2, column 3"),
        ('{"a": 1 "b": 2}', 'line 1, column 9: "," or "}" is expected'),
        ("{a: 1}", "line 1, column 2"),
        ("{1: 1}", "a name in double quotes is expected"),
        ('{"a" 1}', "a colon is expected"),
        ("{} {}", "line 1, column 4: something follows the end"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "open', "unterminated string"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_an_error_names_its_line_and_column(text: str, expected_text: str) -> None:
    with pytest.raises(JsonError) as caught:
        value_at(text, (), None, allow_comments=False)
    assert expected_text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("[]", "the whole is not an object"),
        ('{"servers": []}', '"servers" is not an object'),
        ('{"servers": null}', '"servers" is not an object'),
        ('{"servers": {}, "servers": {}}', '"servers" is there twice'),
    ],
)
def test_a_json_of_another_shape_is_refused(text: str, expected_text: str) -> None:
    for change in (
        lambda: set_member(text, PATH, ENTRY, allow_comments=False),
        lambda: remove_member(text, PATH, allow_comments=False),
    ):
        with pytest.raises(JsonError) as caught:
            change()
        assert str(caught.value) == expected_text
