"""The SDK's client for a test: each of its callbacks answers a question with the test's answers."""

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
from taskmill.testing.client_types import Endpoint

__all__ = ["sdk_client"]


def sdk_client(endpoint: Endpoint, **more: Any) -> Client:
    """The SDK's client; it declares that it can answer every kind of question. `more`: further arguments of it."""
    asked = _Callbacks(endpoint.answerer)
    return Client(
        endpoint.transport(),
        elicitation_callback=asked.user,
        sampling_callback=asked.model,
        sampling_capabilities=SamplingCapability(tools=SamplingToolsCapability()),
        list_roots_callback=asked.roots,
        cache=None,
        **more,
    )


class _Callbacks:
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
