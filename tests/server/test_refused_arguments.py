"""What the caller of a tool reads whose arguments do not fit."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from taskmill.server.protocol.arguments import faults_by_schema, faults_of, refused_arguments


class Order(BaseModel):
    n: int
    size: Annotated[int, Field(le=9)] = 1
    sizes: list[int] = []
    word: str = ""

    @field_validator("word")
    @classmethod
    def _check(cls, word: str) -> str:
        if word == "bad":
            raise ValueError("this word is taken")
        return word


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n": "abc"}, "n should be a valid integer, unable to parse string as an integer, not 'abc'"),
        ({}, "n is required"),
        ({"n": 1, "size": 12}, "size should be less than or equal to 9, not 12"),
        ({"n": 1, "sizes": [1, {}]}, "sizes.1 should be a valid integer"),
        ({"n": 1, "word": "bad"}, "word: this word is taken"),
        ({"n": None, "size": []}, "n should be a valid integer; size should be a valid integer"),
        ({"n": "x" * 100}, "n should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_fault_names_the_argument_and_says_what_is_wrong(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError) as error:
        Order.model_validate(values)
    assert refused_arguments("order", faults_of(error.value)) == f"Error executing tool order: {text}"


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 3, "description": "How many.\nAt least three."},
        "kind": {"enum": ["a", "b"]},
        "on": {"type": "boolean", "default": False},
        "who": {"$ref": "#/$defs/Who"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "(a+)+$"},
        "when": {"type": "string", "format": "date-time"},
    },
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"Who": {"type": "object", "properties": {"ages": {"type": "array", "items": {"type": "integer"}}}}},
}


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        ({"n": 5, "kind": "a", "on": True, "who": {"ages": [1]}, "either": None}, []),
        ({}, ["n is required"]),
        ({"n": "abc"}, ["n should be an integer, not 'abc'"]),
        ({"n": 1}, ["n should be at least 3, not 1"]),
        ({"n": 5, "kind": "z"}, ["kind should be 'a' or 'b', not 'z'"]),
        ({"n": 5, "zz": 1, "on": []}, ["on should be a boolean", "zz is not known"]),
        ({"n": 5, "who": {"ages": [1, "x"]}}, ["who.ages.1 should be an integer, not 'x'"]),
        ({"n": 5, "either": "x"}, ["either should be an integer or null, not 'x'"]),
    ],
)
def test_arguments_that_a_schema_forbids_are_named_with_what_they_should_be(
    arguments: dict[str, object], faults: list[str]
) -> None:
    assert sorted(faults_by_schema(arguments, SCHEMA)) == faults


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": "5", "on": "yes", "who": '{"ages": [1]}'},  # many a tool takes the text for the value
        {"n": True, "on": 1, "when": 1700000000},
        {"n": 5, "code": "a" * 200 + "b"},  # this pattern would take longer than the universe
        {"n": list(range(5000))},  # more than this process wants to look at
    ],
)
def test_what_the_tool_itself_may_take_is_left_to_it(arguments: dict[str, object]) -> None:
    assert faults_by_schema(arguments, SCHEMA) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#"},
        {"properties": 3},
        {"type": "unheard-of"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
def test_a_schema_that_makes_no_sense_refuses_nothing(schema: dict[str, object]) -> None:
    assert faults_by_schema({"n": 1}, schema) == []
    assert refused_arguments("order", ["n is required"], schema).endswith(" It takes no arguments.")


def test_the_words_end_with_what_the_tool_takes() -> None:
    words = refused_arguments("order", faults_by_schema({}, SCHEMA), SCHEMA).splitlines()
    assert words[0] == "Error executing tool order: n is required. It takes:"
    assert words[1] == "    n  integer, required: How many."
    assert "    on  boolean, default false" in words
