"""`sample` and `sample_step`, the same for every framework's tools: which model is asked, and what is kept of it.

An object that has them says how its client is asked; the server's own model is asked within a step.
"""

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any, ClassVar, TypeVar, overload

from mcp.server.validation import validate_tool_use_result_messages
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    Tool,
)

from taskmill.server.context.client_models import ClientModel, question_of
from taskmill.server.context.task_members import TaskMembers
from taskmill.server.protocol.questions import kind_of, missing_capability
from taskmill.server.sampling.functions import SampleTool, Toolset, has_functions
from taskmill.server.sampling.loop import SampleLoop, step_number
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.sampling.request import Answer, Preferences, Prompt, digest_of, request_of, wants_tools
from taskmill.server.sampling.results import ResultShape, SampleResult, SampleStep

__all__ = ["SamplingMembers"]

T = TypeVar("T")
_OTHER_WAY = "Use a client that does, or give the server a model of its own: TASKMILL_SAMPLING_MODEL=anthropic/NAME."


class SamplingMembers(TaskMembers):
    """A task, or a foreground call, that can ask a model."""

    _shown_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of a framework whose own text a model may read."""

    @overload
    async def sample(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Prompt | None = None,
        tools: None = None,
        result_type: None = None,
        max_tokens: int | None = None,
        system: str | None = None,
        model_preferences: Preferences | None = None,
        **more: Any,
    ) -> CreateMessageResult: ...
    @overload
    async def sample(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Prompt | None = None,
        tools: Sequence[Tool],
        result_type: None = None,
        max_tokens: int | None = None,
        system: str | None = None,
        model_preferences: Preferences | None = None,
        **more: Any,
    ) -> CreateMessageResultWithTools: ...
    @overload
    async def sample(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Prompt | None = None,
        tools: Sequence[Callable[..., Any] | SampleTool],
        result_type: None = None,
        max_steps: int = 20,
        tool_concurrency: int = 1,
        max_tokens: int | None = None,
        system: str | None = None,
        model_preferences: Preferences | None = None,
        **more: Any,
    ) -> SampleResult[str]: ...
    @overload
    async def sample(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Prompt | None = None,
        tools: Sequence[Callable[..., Any] | SampleTool] | None = None,
        result_type: type[T],
        max_steps: int = 20,
        tool_concurrency: int = 1,
        max_tokens: int | None = None,
        system: str | None = None,
        model_preferences: Preferences | None = None,
        **more: Any,
    ) -> SampleResult[T]: ...
    async def sample(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Prompt | None = None,
        tools: Sequence[Any] | None = None,
        result_type: Any = None,
        max_steps: int = 20,
        tool_concurrency: int = 1,
        **more: Any,
    ) -> Any:
        """Ask a model: the client's, or the server's own where the client has none.

        `prompt`, also `messages`: the user's words, a message or a conversation. Without tools the answer is
        `.content`.
        `tools`: functions that the model may call; they run, and it is asked again until it calls none: a
        `SampleResult`. Each answer and each call is a step of the task. (Descriptions, `mcp.types.Tool`, are not run:
        the answer may be a tool call, and `.content` a list.)
        `result_type`: a type that the answer must have; it is `.result`.
        `max_steps`: how often the model is asked at most.
        `tool_concurrency`: how many of the calls that one answer makes run at once, 0 = all.
        `more`: `system` (or `system_prompt`), `max_tokens`, `temperature`, `stop_sequences`, `model_preferences` (also
        a model's name), `include_context`, `metadata`, `tool_choice`.

        Raises:
            MCPError: neither the client nor the server has a model (-32021).
            SamplingFailed: the server's model gives no answer; or `max_steps` were not enough.
            ToolUnfit: a function cannot be a tool.
            TypeError: `prompt` and `messages` are both given, or neither is; tools of both kinds.
            ValueError: an unknown option, or tool calls and results that do not belong together.
        """
        runs_tools = has_functions(tools)
        if not runs_tools and result_type is None:
            return (await self._answer(request_of(prompt, messages, tools=tools, **more)))[0]
        if tools and not runs_tools:
            raise TypeError("result_type goes with functions as tools: descriptions of tools are not run.")
        if max_steps < 1 or tool_concurrency < 0:
            raise ValueError("max_steps is 1 or more, and tool_concurrency 0 or more.")
        shape = None if result_type is None else ResultShape(result_type)
        request = request_of(prompt, messages, tools=(), **more)
        return await self._loop(tools or (), tool_concurrency).run(request, max_steps=max_steps, shape=shape)

    async def sample_step(
        self,
        messages: Prompt,
        *,
        tools: Sequence[Callable[..., Any] | SampleTool] = (),
        execute_tools: bool = True,
        tool_concurrency: int = 1,
        **more: Any,
    ) -> SampleStep:
        """Ask a model once, and run the tool calls of its answer: one round of `sample`, for a loop of your own.

        `execute_tools=False`: do not run them; go on with messages that have their results. `more`: as for `sample`.

        Raises:
            MCPError, SamplingFailed, ToolUnfit, ValueError: see `sample`.
        """
        if tools and not has_functions(tools):
            raise TypeError("sample_step takes functions as tools.")
        request = request_of(messages, None, tools=() if tools else None, **more)
        return await self._loop(tools, tool_concurrency).one(request, execute=execute_tools)

    def _loop(self, tools: Sequence[Any], concurrency: int) -> SampleLoop:
        toolset = Toolset(tools, context=self, shown=self._shown_errors)
        return SampleLoop(self._answer, self.step, toolset, self._task.task_id if self._task else None, concurrency)

    async def _answer(self, request: CreateMessageRequestParams) -> tuple[Answer, str]:
        """The model's answer, and an id of it that is the same in every attempt."""
        validate_tool_use_result_messages(request.messages)
        own, client = self._models()
        if not (own.is_first or (own.is_set and not client.offers(request))):
            if client.offers(request) or client.answers_by_tool(request):
                return await client.ask(request), digest_of(request)
            raise _no_model(request)

        async def ask(_digest: str) -> Any:
            answer = await own.ask(request)
            return {"id": token_hex(8), "answer": answer.model_dump(by_alias=True, mode="json", exclude_none=True)}

        # The digest is what tells this step from others that run at the same time.
        kept = await self.step(f"sample {step_number(request)}: model", ask, digest_of(request))
        kind = CreateMessageResultWithTools if wants_tools(request) else CreateMessageResult
        return kind.model_validate(kept["answer"], by_name=False), kept["id"]

    def _models(self) -> tuple[OwnModel, ClientModel]:
        """The server's own model, and the client's."""
        raise NotImplementedError


def _no_model(request: CreateMessageRequestParams) -> MCPError:
    kind = kind_of(question_of(request))
    text = f"This tool asks a model, and the client did not declare the {kind.capability} capability. {_OTHER_WAY}"
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, text, missing_capability(kind))
