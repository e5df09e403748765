"""Arguments of `taskmill call`: from command line words, by the tool's input schema."""

from pathlib import Path
from typing import Any

import pytest

from taskmill.cli.client.arguments import check_arguments, parse_arguments, parse_object, split_pairs
from taskmill.cli.errors import UsageError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "What to say"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "number": {"type": "integer", "default": 3},
        "flag": {"type": "boolean"},
        "items": {"type": "array", "items": {"type": "string"}},
        "where": {"$ref": "#/$defs/Place"},
        "mode": {"$ref": "#/$defs/Mode"},
        "anything": {},
    },
    "required": ["text"],
    "$defs": {"Place": {"type": "object"}, "Mode": {"enum": ["1", "2"]}},
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("maybe=null", "null"),
        ("number=5", 5),
        ("number=five", "five"),
        ("flag=true", True),
        ('items=["a", "b"]', ["a", "b"]),
        ('where={"x": 1}', {"x": 1}),
        ("mode=1", "1"),
        ("anything=1", 1),
        ("anything=one", "one"),
        ("unknown=1", 1),
        ("text=@@home", "@home"),
    ],
)
def test_a_value_is_json_unless_the_tool_wants_text(word: str, value: object) -> None:
    (key,) = split_pairs([word])
    assert parse_arguments(split_pairs([word]), SCHEMA) == {key: value}


def test_a_file_gives_the_value(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("line\nline\n", encoding="utf-8")
    (tmp_path / "list").write_text('["a"]', encoding="utf-8")
    pairs = {"text": f"@{tmp_path}/text", "items": f"@{tmp_path}/list"}
    assert parse_arguments(pairs, SCHEMA) == {"text": "line\nline\n", "items": ["a"]}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"Cannot read .*/none: No such file"):
        parse_arguments({"text": f"@{tmp_path}/none"}, SCHEMA)
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        parse_arguments({"text": f"@{tmp_path}/binary"}, SCHEMA)


@pytest.mark.parametrize("word", ["text", "=5", ""])
def test_a_word_without_a_key_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        split_pairs([word])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'a' is given twice"):
        split_pairs(["a=1", "a=2"])


@pytest.mark.parametrize("text", ["[1]", "{", "1"])
def test_args_must_be_a_json_object(text: str) -> None:
    with pytest.raises(UsageError, match="--args"):
        parse_object(text)


def test_an_unknown_argument_lists_what_the_tool_takes() -> None:
    with pytest.raises(UsageError) as caught:
        check_arguments("speak", {"text": "x", "txet": "y"}, SCHEMA)
    lines = str(caught.value).splitlines()
    assert lines[0] == "speak has no argument 'txet'. It takes:"
    assert "    text  string, required: What to say" in lines
    assert "    number  integer, default 3" in lines
    assert "    maybe  string, default null" in lines


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UsageError, match="speak needs 'text'"):
        check_arguments("speak", {}, SCHEMA)


def test_a_tool_that_takes_anything_is_given_anything() -> None:
    check_arguments("speak", {"other": 1}, {"properties": {}, "additionalProperties": True})


def test_a_recursive_schema_does_not_loop() -> None:
    looped = {"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"anyOf": [{"$ref": "#/$defs/X"}]}}}
    assert parse_arguments({"x": "1"}, looped) == {"x": 1}
