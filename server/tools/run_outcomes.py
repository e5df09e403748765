"""How a run of a tool ends for its task, whatever framework ran it: a result, a failure, questions to the client."""

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolResult,
    ClientCapabilities,
    InputRequiredResult,
    InputResponseRequestParams,
)

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ArtifactTooLarge, StateUnavailable
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned
from taskmill.server.protocol.questions import check_can_ask
from taskmill.server.protocol.results import error_result
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.tools.result_offload import offload_large_parts

__all__ = ["ask", "capabilities_of", "crash_in_words", "failure", "refused", "returned", "without_values"]


async def returned(result: CallToolResult, context: TaskContext) -> Outcome:
    """The outcome of a tool that returned; parts that are too large for a reply become artifacts."""
    try:
        return Returned(await offload_large_parts(result, context), result.is_error)
    except ArtifactTooLarge as exc:
        return Failed(Fault.TOO_LARGE, f"The tool's result is too large to be kept. {exc}")


async def ask(
    context: TaskContext, asked: InputRequiredResult, payload: Mapping[str, Any]
) -> InputResponseRequestParams:
    """Ask the client what a tool wants to know; returns what the tool is called with again.

    Raises:
        MCPError: the client did not declare that it can be asked this (-32021).
    """
    requests = asked.input_requests or {}
    wire = [request.model_dump(by_alias=True, mode="json", exclude_none=True) for request in requests.values()]
    check_can_ask(capabilities_of(payload), wire)
    answers = await context.ask(wire) if wire else []
    given = {"inputResponses": dict(zip(requests, answers, strict=True)), "requestState": asked.request_state}
    return InputResponseRequestParams.model_validate(given, by_name=False)


def capabilities_of(payload: Mapping[str, Any]) -> ClientCapabilities | None:
    """What the client of a task can be asked, by what was kept of its call; None = it declared nothing."""
    declared = payload.get("client", {}).get("capabilities")
    return None if declared is None else ClientCapabilities.model_validate(declared, by_name=False)


def refused(error: MCPError) -> Refused | None:
    """The outcome of an error of the protocol's form that a tool raised; None = raise it: it may be tried again."""
    if isinstance(error, SamplingFailed) and error.retryable:
        return None
    return Refused(error.code, error.message, error.data)


def crash_in_words(crash: BaseException) -> Outcome | None:
    """The outcome of a crash whose own words callers may read; None = they get none of it."""
    if isinstance(crash, StateUnavailable):
        return failure(str(crash))
    if not isinstance(crash, SamplingFailed):
        return None
    # Not by its `error`: that is lost on the way out of a tool process.
    return Refused(INTERNAL_ERROR, crash.text, crash.facts)


def failure(text: str) -> Returned:
    """The outcome of a tool that failed, in words for the model that called it."""
    return Returned(error_result(text).model_dump(by_alias=True, mode="json", exclude_none=True), is_error=True)


def without_values(error: BaseException) -> BaseException:
    """The same error, cut off from causes of pydantic's: their texts quote arguments and answers, and it is logged."""
    link, seen = error, {id(error)}
    while (behind := link.__cause__ or link.__context__) is not None and id(behind) not in seen:
        if any(kind.__name__ == "ValidationError" for kind in type(behind).__mro__):
            link.__cause__ = link.__context__ = None
            break
        seen.add(id(behind))
        link = behind
    return error
