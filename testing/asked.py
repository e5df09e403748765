"""The SDK's client as it is asked in a test: each of its callbacks passes the question on to the answers."""

from typing import Any

from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    SamplingCapability,
    SamplingToolsCapability,
)
from pydantic import BaseModel

from taskmill.testing.answers import Answerer
from taskmill.testing.calling import Wire

__all__ = ["askable_client"]


def askable_client(wire: Wire, **more: Any) -> Client:
    """The SDK's client, which can be asked everything, and says so; `more` are further arguments of it."""
    asked = _Asked(wire.answerer)
    return Client(
        wire.transport(),
        elicitation_callback=asked.user,
        sampling_callback=asked.model,
        sampling_capabilities=SamplingCapability(tools=SamplingToolsCapability()),
        list_roots_callback=asked.roots,
        cache=None,
        **more,
    )


class _Asked:
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def user(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult.model_validate(self._ask("elicitation/create", params), by_name=False)

    async def model(
        self, context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult | CreateMessageResultWithTools:
        kind = CreateMessageResultWithTools if params.tools else CreateMessageResult
        return kind.model_validate(self._ask("sampling/createMessage", params), by_name=False)

    async def roots(self, context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult.model_validate(self._ask("roots/list", None), by_name=False)

    def _ask(self, method: str, params: BaseModel | None) -> dict[str, Any]:
        dumped = params.model_dump(by_alias=True, mode="json", exclude_none=True) if params else {}
        return self._answerer({"method": method, "params": dumped})
