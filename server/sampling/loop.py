"""The loop of a model and its tools: the model is asked, its tool calls run, and it reads their results, until it has
come to its end.

Each answer and each result goes through `ask` and `step`, so that a task keeps them one by one: the conversation is
put together from them, and is never stored as a whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_types import (
    CreateMessageRequestParams,
    SamplingMessage,
    TextContent,
    ToolChoice,
    ToolResultContent,
    ToolUseContent,
)

from taskmill.engine.errors import TooLargeToStore
from taskmill.engine.steps import effect_key
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.sampling.functions import Toolset, tool_error
from taskmill.server.sampling.request import Answer, tool_calls_of
from taskmill.server.sampling.results import FINAL_ANSWER, ResultShape, SampleResult, SampleStep, is_cut_off

__all__ = ["SampleLoop", "step_number"]

_REMINDER = f"Give your answer by a call of {FINAL_ANSWER}."


@dataclass(frozen=True)
class SampleLoop:
    """What a loop works with."""

    ask: Callable[[CreateMessageRequestParams], Awaitable[tuple[Answer, str]]]
    """One call of the model: its answer, and an id of it that is the same in every attempt."""
    step: Callable[..., Awaitable[Any]]
    """`ctx.step`."""
    tools: Toolset
    task_id: str | None = None
    concurrency: int = 1
    """How many tool calls of one answer run at once, 0 = all."""

    async def run(
        self, request: CreateMessageRequestParams, *, max_steps: int, shape: ResultShape | None
    ) -> SampleResult[Any]:
        """Ask until the model calls no more tools; with `shape`, until it has given a result of that shape.

        Raises:
            SamplingFailed: no model can be asked, or it has not come to an end in `max_steps` calls.
        """
        request = self._with_tools(request, shape)
        for number in range(1, max_steps + 1):
            answer, known_as = await self.ask(request)
            calls = tool_calls_of(answer)
            if shape is None and not calls:
                done = [*request.messages, _message_of(answer)]
                return SampleResult(SampleStep(answer, done).text, answer, done, number)
            _refuse_cut_off(request, answer)
            wrong, found = _final_of(calls, shape)
            if found is not None:
                return SampleResult(found[0], answer, [*request.messages, _message_of(answer)], number)
            others = [call for call in calls if shape is None or call.name != FINAL_ANSWER]
            results = _in_order(calls, [*wrong, *await self._results(request, others, known_as)])
            request = _continued(request, answer, results)
        raise SamplingFailed(
            f"The model had not come to an end after {max_steps} {'call' if max_steps == 1 else 'calls'} "
            f"(max_steps={max_steps}). Allow more, or ask for less.",
            reason="max_steps",
        )

    async def one(self, request: CreateMessageRequestParams, *, execute: bool) -> SampleStep:
        """Ask once, and run the tool calls of the answer."""
        request = self._with_tools(request, None)
        answer, known_as = await self.ask(request)
        calls = tool_calls_of(answer)
        if not calls or not execute:
            return SampleStep(answer, [*request.messages, _message_of(answer)])
        _refuse_cut_off(request, answer)
        return SampleStep(answer, _continued(request, answer, await self._results(request, calls, known_as)).messages)

    def _with_tools(self, request: CreateMessageRequestParams, shape: ResultShape | None) -> CreateMessageRequestParams:
        described = [*self.tools.described, *([shape.tool()] if shape else [])]
        if not described:
            return request
        changes: dict[str, Any] = {"tools": described}
        if shape is not None:
            changes["tool_choice"] = ToolChoice(mode="required")
        return request.model_copy(update=changes)

    async def _results(
        self, request: CreateMessageRequestParams, calls: Sequence[ToolUseContent], known_as: str
    ) -> list[ToolResultContent]:
        keys = [self._key_of(known_as, at) for at in range(len(calls))]
        if self.concurrency == 1 or len(calls) == 1:
            return [await self._result(request, call, key) for call, key in zip(calls, keys, strict=True)]
        limit = asyncio.Semaphore(self.concurrency or len(calls))

        async def limited(call: ToolUseContent, key: str | None) -> ToolResultContent:
            async with limit:
                return await self._result(request, call, key)

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(limited(*one)) for one in zip(calls, keys, strict=True)]
        except BaseExceptionGroup as exc:
            raise _first_of(exc) from None  # one error is what a tool catches; the others were stopped for it
        return [one.result() for one in running]

    async def _result(
        self, request: CreateMessageRequestParams, call: ToolUseContent, key: str | None
    ) -> ToolResultContent:
        """The result of one call: run now, or read back from the task's journal."""
        with effect_key(key):
            if not self.tools.is_step(call.name):
                return await self.tools.call(call)

            async def run(*_: Any) -> Any:
                return _wire(await self.tools.call(call))

            async def too_large(*_: Any) -> Any:
                return _wire(tool_error(call, f"The result of {call.name} is too large to be kept: ask for less."))

            # The identity of a step among concurrent ones is its name and its arguments.
            name, given = f"sample {step_number(request)}: {call.name}", [call.id, call.input]
            try:
                kept = await self.step(name, run, given)
            except TooLargeToStore:
                kept = await self.step(name, too_large, given)
        return ToolResultContent.model_validate(kept, by_name=False)

    def _key_of(self, known_as: str, at: int) -> str | None:
        """The same for this call in every attempt, and for no other call: models do not always give theirs an id."""
        return None if self.task_id is None else f"{self.task_id}:{known_as}:{at}"


def step_number(request: CreateMessageRequestParams) -> int:
    """Which answer of its conversation this one is, from 1."""
    return 1 + sum(message.role == "assistant" for message in request.messages)


def _wire(result: ToolResultContent) -> dict[str, Any]:
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def _message_of(answer: Answer) -> SamplingMessage:
    return SamplingMessage(role="assistant", content=answer.content)


def _continued(
    request: CreateMessageRequestParams, answer: Answer, results: Sequence[ToolResultContent]
) -> CreateMessageRequestParams:
    """The next request of the conversation."""
    read: Any = list(results) if results else TextContent(type="text", text=_REMINDER)
    messages = [*request.messages, _message_of(answer), SamplingMessage(role="user", content=read)]
    return request.model_copy(update={"messages": messages})


def _final_of(
    calls: Sequence[ToolUseContent], shape: ResultShape | None
) -> tuple[list[ToolResultContent], tuple[Any] | None]:
    """What the model reads of results that do not fit; and the first result that does."""
    wrong = []
    for call in calls:
        if shape is not None and call.name == FINAL_ANSWER:
            try:
                return [], (shape.read(call),)
            except ValueError as exc:
                wrong.append(tool_error(call, f"This is no answer of the wanted form. {exc}"))
    return wrong, None


def _in_order(calls: Sequence[ToolUseContent], results: Sequence[ToolResultContent]) -> list[ToolResultContent]:
    order = {call.id: at for at, call in enumerate(calls)}
    return sorted(results, key=lambda result: order[result.tool_use_id])


def _refuse_cut_off(request: CreateMessageRequestParams, answer: Answer) -> None:
    if is_cut_off(request, answer):
        raise SamplingFailed(
            f"The model's answer was cut off in a tool call at max_tokens={request.max_tokens}. Allow more.",
            reason="cut_off",
        )


def _first_of(error: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
