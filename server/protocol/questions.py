"""What a task can ask its client: the one table of protocol requests, their results and the capabilities they need.

A question is a request of the protocol as JSON: `method` and `params`. How it reaches a client is not known here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitationCapability,
    ElicitRequest,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
    MissingRequiredClientCapabilityErrorData,
    RootsCapability,
    SamplingCapability,
    SamplingContextCapability,
    SamplingToolsCapability,
    UrlElicitationCapability,
)
from pydantic import BaseModel

__all__ = ["QuestionKind", "can_ask", "check_can_ask", "kind_of", "missing_capability", "with_tool_answers"]


@dataclass(frozen=True, slots=True)
class QuestionKind:
    """One row of the table."""

    request: type[BaseModel]
    result: type[BaseModel]
    capability: str
    """The needed capability in words."""
    needs: ClientCapabilities
    """The same for `data.requiredCapabilities` of an error."""


def kind_of(question: Mapping[str, Any]) -> QuestionKind:
    """The row of a question."""
    params: Mapping[str, Any] = question.get("params") or {}
    match question["method"], params.get("mode"):
        case "elicitation/create", "url":
            return _LINK
        case "elicitation/create", _:
            return _FORM
        case "sampling/createMessage", _:
            return _sample(params)
        case _:
            return _ROOTS


def can_ask(client: ClientCapabilities | None, question: Mapping[str, Any]) -> bool:
    """Whether a client with these capabilities can be asked this; None = it declared none."""
    needs, has = kind_of(question).needs, client or ClientCapabilities()
    if needs.elicitation is not None:
        if has.elicitation is None:
            return False
        # Elicitation, "Capabilities": an empty object means form mode only.
        has_form = has.elicitation.form is not None or has.elicitation.url is None
        return has_form if needs.elicitation.url is None else has.elicitation.url is not None
    if needs.sampling is not None:
        return (
            has.sampling is not None
            and (needs.sampling.tools is None or has.sampling.tools is not None)
            and (needs.sampling.context is None or has.sampling.context is not None)
        )
    return has.roots is not None


def check_can_ask(client: ClientCapabilities | None, questions: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to ask what no answer could come to.

    Raises:
        MCPError: the client did not declare what a question needs (-32021).
    """
    for question in questions:
        if not can_ask(client, question):
            kind = kind_of(question)
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This tool asks its client a question, and the client did not declare the {kind.capability} "
                "capability.",
                missing_capability(kind),
            )


def missing_capability(kind: QuestionKind) -> dict[str, Any]:
    """`data` of the error -32021 of this question."""
    data = MissingRequiredClientCapabilityErrorData(required_capabilities=kind.needs)
    return data.model_dump(by_alias=True, mode="json", exclude_none=True)


def with_tool_answers(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Capabilities of a client whose model can answer questions with a follow-up tool, whatever the client declared.

    Not sampling with tools: a follow-up tool has no room for a conversation.
    """
    elicitation = {"form": {}, **declared.get("elicitation", {}), "url": {}}
    return {"sampling": {}, "roots": {}, **declared, "elicitation": elicitation}


def _sample(params: Mapping[str, Any]) -> QuestionKind:
    has_tools = "tools" in params or "toolChoice" in params
    has_context = params.get("includeContext", "none") != "none"
    needs = SamplingCapability(
        tools=SamplingToolsCapability() if has_tools else None,
        context=SamplingContextCapability() if has_context else None,
    )
    return QuestionKind(
        CreateMessageRequest,
        CreateMessageResultWithTools if has_tools else CreateMessageResult,
        "sampling.tools" if has_tools else "sampling",
        ClientCapabilities(sampling=needs),
    )


_FORM = QuestionKind(
    ElicitRequest, ElicitResult, "elicitation", ClientCapabilities(elicitation=ElicitationCapability())
)
_LINK = QuestionKind(
    ElicitRequest,
    ElicitResult,
    "elicitation.url",
    ClientCapabilities(elicitation=ElicitationCapability(url=UrlElicitationCapability())),
)
_ROOTS = QuestionKind(ListRootsRequest, ListRootsResult, "roots", ClientCapabilities(roots=RootsCapability()))
