"""The converter of a tool's output is kept where Python finds it first."""

from typing import Any

import pytest
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel

from taskmill.server.protocol.sdk_private import cache_output_adapter


class Point(BaseModel):
    """A place."""

    x: int
    y: int


def text() -> str:
    """Give a text."""
    return "three"


def point() -> Point:
    """Give a place."""
    return Point(x=1, y=2)


def numbers() -> list[int]:
    """Give numbers."""
    return [1, 2]


def anything() -> Any:
    """Give what nothing is known of."""
    return {"a": 1}


@pytest.mark.parametrize("function", [text, point, numbers, anything], ids=lambda function: function.__name__)
def test_results_are_converted_as_before(function: Any) -> None:
    usual, kept = Tool.from_function(function), Tool.from_function(function)

    cache_output_adapter(kept)

    assert kept.fn_metadata.convert_result(function()) == usual.fn_metadata.convert_result(function())
    assert kept.fn_metadata.model_dump().keys() == usual.fn_metadata.model_dump().keys()


def test_the_sdk_still_looks_where_it_is_kept() -> None:
    """Should this fail, the SDK has changed: nothing is gained any more, and `cache_output_adapter` can go."""
    tool = Tool.from_function(text)
    cache_output_adapter(tool)
    asked: list[str] = []

    class Witness(type(tool.fn_metadata)):  # type: ignore[misc]  # of the class that the SDK made
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return super().__getattr__(name)

    object.__setattr__(tool.fn_metadata, "__class__", Witness)
    tool.fn_metadata.convert_result("three")

    assert "_adapter" not in asked
