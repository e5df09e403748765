"""The model of a client, asked in the middle of a call: as a question of the task, or at once in a foreground call."""

from dataclasses import dataclass
from typing import Any, Protocol

from mcp.server.session import ServerSession
from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.context import TaskContext
from taskmill.server.protocol.questions import can_ask, check_can_ask
from taskmill.server.sampling.request import Answer, wants_tools

__all__ = ["ClientModel", "ClientOfCall", "ClientOfTask", "NoClient"]


class ClientModel(Protocol):
    """What the tool around can have of its client."""

    def offers(self, request: CreateMessageRequestParams) -> bool:
        """Whether the client has declared a model for this, and can be asked now."""

    def answers_by_tool(self, request: CreateMessageRequestParams) -> bool:
        """Whether the model that called the tool can answer in its place, by a follow-up tool."""

    async def ask(self, request: CreateMessageRequestParams) -> Answer:
        """Its answer.

        Raises:
            MCPError: it was refused, or cannot be had.
        """


@dataclass(frozen=True, slots=True)
class ClientOfTask:
    """The client of a task."""

    task: TaskContext
    capabilities: ClientCapabilities | None
    by_tool: bool
    """Its sampling is done by a follow-up tool."""

    def offers(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`."""
        return not self.by_tool and can_ask(self.capabilities, question_of(request))

    def answers_by_tool(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`."""
        return self.by_tool and can_ask(self.capabilities, question_of(request))

    async def ask(self, request: CreateMessageRequestParams) -> Answer:
        """See `ClientModel`."""
        question = question_of(request)
        check_can_ask(self.capabilities, [question])
        (answer,) = await self.task.ask([question])
        kind = CreateMessageResultWithTools if wants_tools(request) else CreateMessageResult
        return kind.model_validate(answer, by_name=False)


@dataclass(frozen=True, slots=True)
class ClientOfCall:
    """The client of a foreground call."""

    session: ServerSession
    protocol_version: str

    def offers(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`. From 2026 on a call that is no task cannot ask in its middle."""
        has_channel = self.protocol_version not in MODERN_PROTOCOL_VERSIONS
        return has_channel and can_ask(self.session.client_capabilities, question_of(request))

    def answers_by_tool(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`."""
        return False

    async def ask(self, request: CreateMessageRequestParams) -> Answer:
        """See `ClientModel`."""
        given = {name: getattr(request, name) for name in _SAMPLED}
        answer: Answer = await self.session.create_message(**given)
        return answer


class NoClient:
    """Code that no client has called."""

    def offers(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`."""
        return False

    def answers_by_tool(self, request: CreateMessageRequestParams) -> bool:
        """See `ClientModel`."""
        return False

    async def ask(self, request: CreateMessageRequestParams) -> Answer:
        """See `ClientModel`."""
        raise AssertionError("it offers nothing")


def question_of(request: CreateMessageRequestParams) -> dict[str, Any]:
    """The request as a question of a task."""
    return CreateMessageRequest(params=request).model_dump(by_alias=True, mode="json", exclude_none=True)


_SAMPLED = tuple(name for name in CreateMessageRequestParams.model_fields if name not in ("meta", "task"))
