"""What `ctx.sample` with functions, and `ctx.sample_step`, return; and how a structured result is asked for."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mcp_types import CreateMessageRequestParams, SamplingMessage, Tool, ToolUseContent
from pydantic import TypeAdapter, ValidationError

from taskmill.server.sampling.request import Answer, text_of, tool_calls_of

__all__ = ["FINAL_ANSWER", "ResultShape", "SampleResult", "SampleStep", "faults_of", "is_cut_off"]

T = TypeVar("T")
FINAL_ANSWER = "final_answer"
"""The tool by which a model gives a structured result."""


@dataclass(frozen=True)
class SampleStep:
    """One answer of a model, and what its tool calls gave."""

    answer: Answer
    messages: list[SamplingMessage]
    """The conversation so far, to go on with: what was asked, the answer, and the results of its tool calls."""

    @property
    def text(self) -> str:
        """The text of the answer."""
        return text_of(self.answer)

    @property
    def tool_calls(self) -> list[ToolUseContent]:
        """The tool calls of the answer."""
        return tool_calls_of(self.answer)

    @property
    def is_final(self) -> bool:
        """Whether the model has called no tool, and so has come to its end."""
        return not self.tool_calls


@dataclass(frozen=True)
class SampleResult(Generic[T]):
    """The end of a loop."""

    result: T
    """The structured result (`result_type=`); without one the text."""
    answer: Answer = field(repr=False)
    """The last answer."""
    messages: list[SamplingMessage] = field(repr=False)
    """The whole conversation."""
    steps: int
    """How often the model was asked."""

    @property
    def text(self) -> str:
        """The text of the last answer."""
        return text_of(self.answer)

    @property
    def content(self) -> Any:
        """The content of the last answer, as the protocol has it."""
        return self.answer.content

    @property
    def model(self) -> str:
        """The model that gave it."""
        return self.answer.model

    @property
    def stop_reason(self) -> str | None:
        """Why it ended: `endTurn`, `maxTokens`, ..."""
        return self.answer.stop_reason


def faults_of(error: ValidationError) -> str:
    """What is wrong with the arguments of a tool call, for the model: without their values, which it has."""
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'the arguments'}: {one['msg']}"
        for one in error.errors(include_input=False, include_url=False, include_context=False)
    )


class ResultShape:
    """A type of Python as a tool's arguments, and back."""

    def __init__(self, kind: Any) -> None:
        """`kind`: whatever pydantic has a schema for."""
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = self._adapter.json_schema()
        self._is_object = schema.get("type") == "object"
        if not self._is_object:
            definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
            schema = {"type": "object", "properties": {"value": schema}, "required": ["value"], **definitions}
        self._schema = schema

    def tool(self) -> Tool:
        """What the model calls with its result."""
        return Tool(
            name=FINAL_ANSWER,
            description="Gives your answer, and ends the work. Call it once, when you have the answer.",
            input_schema=self._schema,
        )

    def read(self, call: ToolUseContent) -> Any:
        """The result.

        Raises:
            ValueError: it does not fit; the message is for the model.
        """
        try:
            return self._adapter.validate_python(call.input if self._is_object else call.input["value"])
        except KeyError:
            raise ValueError("The argument `value` is missing.") from None
        except ValidationError as exc:
            raise ValueError(faults_of(exc)) from None


def is_cut_off(request: CreateMessageRequestParams, answer: Answer) -> bool:
    """Whether the answer ends in the middle of a tool call, so that its arguments cannot be trusted."""
    return answer.stop_reason == "maxTokens" and bool(tool_calls_of(answer)) and request.tools is not None
