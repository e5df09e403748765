"""What the caller of a tool reads whose arguments do not fit."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from taskmill.server.tools.validation import refused_arguments


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
    assert refused_arguments("order", error.value) == f"Error executing tool order: {text}"
