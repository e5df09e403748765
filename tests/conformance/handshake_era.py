"""What only the revisions up to 2025-11-25 have: requests sent to the client in mid-call, `logging/setLevel`,
`resources/subscribe`, and a call whose stream is closed on purpose and resumed.
"""

import asyncio
from typing import Annotated, Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    CreateMessageResult,
    EmptyResult,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field, WithJsonSchema

__all__ = ["TOOLS", "add_to"]

OPTIONS = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]


class Contact(BaseModel):
    """Both fields are needed."""

    username: str
    email: str


class Defaults(BaseModel):
    """A default of each primitive type; types stand inline, as elicitation forms have no `$ref`."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Annotated[str, Field(json_schema_extra={"enum": ["active", "inactive", "pending"]})] = "active"
    verified: bool = True


class Choices(BaseModel):
    """Every way a form may offer a choice."""

    untitledSingle: Annotated[str, Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})]
    titledSingle: Annotated[str, Field(json_schema_extra={"oneOf": OPTIONS})]
    legacyEnum: Annotated[
        str, Field(json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]})
    ]
    untitledMulti: Annotated[
        list[str], WithJsonSchema({"type": "array", "items": {"type": "string", "enum": ["option1", "option2"]}})
    ]
    titledMulti: Annotated[list[str], WithJsonSchema({"type": "array", "items": {"anyOf": OPTIONS}})]


async def test_sampling(prompt: str, ctx: Context) -> str:
    """Let the client's model complete a prompt in mid-call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    assert isinstance(answer, CreateMessageResult)
    return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else '(not a text)'}"


async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user for a contact in mid-call."""
    return f"User response: {(await ctx.elicit(message, Contact)).action}"


async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default in every field."""
    return f"User response: {(await ctx.elicit('Please review the defaults', Defaults)).action}"


async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with every kind of choice."""
    return f"User response: {(await ctx.elicit('Please choose', Choices)).action}"


async def test_reconnection(ctx: Context) -> str:
    """Close the call's stream before the result is there; the client comes back for it."""
    await asyncio.sleep(0.1)  # the stream's first event, which names where to resume, must be on its way
    await ctx.close_sse_stream()
    await asyncio.sleep(0.1)
    return "The result waited for the client"


async def set_level(ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams) -> EmptyResult:
    """Accept any level: this server sends every message it has."""
    return EmptyResult()


async def subscribe(ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
    """Accept a subscription: the watched resource never changes."""
    return EmptyResult()


async def unsubscribe(ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
    """Accept the end of a subscription."""
    return EmptyResult()


def add_to(mcp: MCPServer) -> None:
    """Serve the three methods that the 2026-07-28 revision dropped."""
    # The SDK has no public way to serve them from an MCPServer; its documentation names this one.
    server = mcp._lowlevel_server
    server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


TOOLS = (
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_reconnection,
)
