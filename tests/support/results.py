"""What a tool's result holds, however a test got it."""

from typing import Any

from mcp.types import CallToolResult, TextContent

from taskmill.engine.outcome import Returned
from taskmill.engine.record import TaskView

__all__ = ["text_of", "text_of_task"]

Json = dict[str, Any]


def text_of(result: Json | CallToolResult) -> str:
    """The text of a result that is one text: the JSON of the wire, or the SDK's object."""
    if isinstance(result, CallToolResult):
        (content,) = result.content
        assert isinstance(content, TextContent), result
        return content.text
    (part,) = result["content"]
    return str(part["text"])


def text_of_task(view: TaskView) -> str:
    """The text of the result that a task returned."""
    assert isinstance(view.outcome, Returned), view
    return text_of(view.outcome.value)
