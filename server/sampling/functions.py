"""The author's functions as tools of a model: their schemas, and how a call of one becomes what the model reads.

Every failure that the model can do something about is such a result too. What ends the attempt is raised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import InvalidSignature, ToolError
from mcp.server.mcpserver.tools import Tool as FunctionTool
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent, Tool, ToolResultContent, ToolUseContent
from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from taskmill.engine.errors import TaskmillError, ToolUnfit
from taskmill.engine.retrying import Retry
from taskmill.engine.steps import run_function
from taskmill.server.sampling.results import faults_of

__all__ = ["SampleTool", "Toolset", "has_functions", "tool_error"]

log = structlog.get_logger()


@dataclass(frozen=True)
class SampleTool:
    """A function that a model may call, where its own name and docstring do not say enough.

    `step=False`: its calls are no steps, so it may have steps and questions of its own; later attempts run it again.
    """

    function: Callable[..., Any]
    name: str | None = None
    description: str | None = None
    step: bool = True


def has_functions(tools: Sequence[Any] | None) -> bool:
    """Whether these are functions to run, and not descriptions of tools that the author runs.

    Raises:
        TypeError: both kinds are there, or something else.
    """
    if not tools:
        return False
    described = [isinstance(one, Tool | dict) for one in tools]
    if any(described) and not all(described):
        raise TypeError("tools are functions, which are run, or descriptions (mcp.types.Tool), which are not.")
    wrong = next((one for one in tools if not callable(one) and not isinstance(one, SampleTool | Tool | dict)), None)
    if wrong is not None:
        raise TypeError(f"tools takes functions, SampleTool(...) or mcp.types.Tool, not {type(wrong).__name__}.")
    return not all(described)


class Toolset:
    """The functions of one loop.

    `context`: what a parameter of type `Context` gets. `shown`: errors whose own text the model may read.
    """

    def __init__(self, tools: Sequence[Any], *, context: Any, shown: tuple[type[Exception], ...]) -> None:
        """Make the schemas.

        Raises:
            ToolUnfit: a function cannot be a tool; the message says why.
        """
        self._context = context
        self._shown: tuple[type[Exception], ...] = (ToolError, *shown)
        self._tools: dict[str, FunctionTool] = {}
        self._not_steps: set[str] = set()
        for one in tools:
            given = one if isinstance(one, SampleTool) else SampleTool(one)
            made = _made(given)
            if made.name in self._tools:
                raise ToolUnfit(f"Two tools of a model are named {made.name!r}: give one SampleTool(..., name=...).")
            if made.context_kwarg is not None and not isinstance(context, SdkContext):
                raise ToolUnfit(f"{made.name} takes a Context, which is not here. Use the task of the tool around it.")
            self._tools[made.name] = made
            if not given.step:
                self._not_steps.add(made.name)

    @property
    def described(self) -> list[Tool]:
        """The tools as the protocol describes them."""
        return [
            Tool(name=one.name, description=one.description or None, input_schema=one.parameters)
            for one in self._tools.values()
        ]

    def is_step(self, name: str) -> bool:
        """Whether calls of it are kept in the task's journal."""
        return name not in self._not_steps

    async def call(self, call: ToolUseContent) -> ToolResultContent:
        """What the model reads of its call.

        Raises:
            TaskmillError, Retry: what ends the attempt.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            return tool_error(call, f"There is no tool {call.name}. There are: {', '.join(self._tools) or 'none'}.")
        unknown = sorted(call.input.keys() - tool.parameters.get("properties", {}).keys())
        if unknown and tool.parameters.get("additionalProperties") is not True:
            return tool_error(call, f"{call.name} has no argument {', '.join(unknown)}.")
        try:
            arguments = tool.fn_metadata.validate_arguments(call.input)
        except ValidationError as exc:
            return tool_error(call, f"Wrong arguments of {call.name}: {faults_of(exc)}")
        if tool.context_kwarg is not None:
            arguments[tool.context_kwarg] = self._context
        return await self._run(tool, call, arguments)

    async def _run(self, tool: FunctionTool, call: ToolUseContent, arguments: dict[str, Any]) -> ToolResultContent:
        try:
            returned = await run_function(tool.fn, (), arguments)
            converted = tool.fn_metadata.convert_result(returned)
        except (TaskmillError, Retry):
            raise
        except MCPError as exc:
            return tool_error(call, exc.message)
        except self._shown as exc:
            return tool_error(call, str(exc))
        except Exception as exc:
            log.error("sampling.tool_crashed", tool=call.name, exc_info=exc)
            return tool_error(call, f"Error executing tool {call.name}")
        if not isinstance(converted, CallToolResult):
            return tool_error(call, f"{call.name} asks for input by its result, which only a tool of a server may do.")
        return ToolResultContent(tool_use_id=call.id, content=converted.content, is_error=converted.is_error or None)


def tool_error(call: ToolUseContent, text: str) -> ToolResultContent:
    """The result of a call that failed."""
    return ToolResultContent(tool_use_id=call.id, content=[TextContent(type="text", text=text)], is_error=True)


def _made(given: SampleTool) -> FunctionTool:
    name = given.name or getattr(given.function, "__name__", None)
    if name is None or name == "<lambda>":
        raise ToolUnfit("A tool of a model needs a name: SampleTool(function, name='...').")
    try:
        return FunctionTool.from_function(
            given.function, name=name, description=given.description, structured_output=False
        )
    except (InvalidSignature, PydanticUserError, TypeError, ValueError) as exc:
        raise ToolUnfit(f"{name} cannot be a tool of a model: {str(exc).splitlines()[0]}") from exc
