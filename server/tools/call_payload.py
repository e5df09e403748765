"""What of a call is stored for the worker that runs it."""

from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types import CallToolRequestParams

from taskmill.server.tools.tracing import trace_of_call

__all__ = ["can_elicit", "payload_of"]

Request = ServerRequestContext[Any, Any]


def can_elicit(ctx: Request) -> bool:
    """Whether the client can ask its user."""
    declared = ctx.session.client_capabilities
    return declared is not None and declared.elicitation is not None


def payload_of(params: CallToolRequestParams, ctx: Request, *, asks_by_tools: bool) -> dict[str, Any]:
    """What a worker needs to make this very call: arguments, settled questions, who the client was.

    `asks_by_tools`: questions can be put to the client's model, whatever the client declared; but not a conversation
    with tools, for which a follow-up tool has no room.
    """
    payload: dict[str, Any] = {"arguments": params.arguments or {}}
    if trace := trace_of_call(ctx.meta):
        payload["trace"] = trace
    inputs = params.model_dump(
        by_alias=True, mode="json", exclude_none=True, include={"input_responses", "request_state"}
    )
    if inputs:
        payload["inputs"] = inputs
    capabilities = ctx.session.client_capabilities
    if capabilities is not None or asks_by_tools:
        declared = capabilities.model_dump(by_alias=True, mode="json", exclude_none=True) if capabilities else {}
        if asks_by_tools:
            declared["elicitation"] = {"form": {}, **declared.get("elicitation", {}), "url": {}}
            declared = {"sampling": {}, "roots": {}, **declared}
        payload["client"] = {"capabilities": declared}
    if ctx.session.client_params is not None:
        info = ctx.session.client_params.client_info.model_dump(by_alias=True, mode="json", exclude_none=True)
        payload.setdefault("client", {})["info"] = info
    return payload
