"""Tools of the 2026-07-28 revision that ask the client by returning: the call ends with the questions in it.

The client answers by making the same call again. Nothing here sends a request of its own to the client.
"""

from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

__all__ = ["TOOLS", "accepted", "form"]


def form(message: str, field: str, kind: str) -> ElicitRequest:
    """A question with one required field of a JSON type."""
    schema: dict[str, Any] = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def accepted(ctx: Context, key: str) -> dict[str, Any] | None:
    """What the user filled in under this key, or None while there is no accepted answer."""
    answer = (ctx.input_responses or {}).get(key)
    return answer.content if isinstance(answer, ElicitResult) and answer.action == "accept" else None


def prompt_model(text: str, max_tokens: int) -> CreateMessageRequest:
    """A request for one completion by the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask for a name, then greet."""
    if (answer := accepted(ctx, "user_name")) is None:
        return InputRequiredResult(input_requests={"user_name": form("What is your name?", "name", "string")})
    return f"Hello, {answer['name']}!"


async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Let the client's model answer, then repeat its answer."""
    answer = (ctx.input_responses or {}).get("capital_question")
    if not isinstance(answer, CreateMessageResult):
        question = prompt_model("What is the capital of France?", 100)
        return InputRequiredResult(input_requests={"capital_question": question})
    return f"The model said: {_text(answer)}"


async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Ask for the client's roots, then list them."""
    answer = (ctx.input_responses or {}).get("client_roots")
    if not isinstance(answer, ListRootsResult):
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return f"Roots: {', '.join(str(root.uri) for root in answer.roots)}"


async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Hand the client a state to bring back together with its answer."""
    if accepted(ctx, "confirm") is None or ctx.request_state != "asked":
        question = form("Is the state all right?", "ok", "boolean")
        return InputRequiredResult(input_requests={"confirm": question}, request_state="asked")
    return "state-ok"


async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Ask a question, the model and the roots in one round."""
    questions: InputRequests = {
        "user_name": form("What is your name?", "name", "string"),
        "greeting": prompt_model("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    if ctx.request_state != "asked" or not questions.keys() <= (ctx.input_responses or {}).keys():
        return InputRequiredResult(input_requests=questions, request_state="asked")
    return "Every answer has arrived"


async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Ask one question after the other, each round with a state of its own."""
    if ctx.request_state == "step 2" and (answer := accepted(ctx, "step2")):
        return f"Your favourite colour is {answer['color']}"
    if ctx.request_state == "step 1" and accepted(ctx, "step1"):
        question = form("Step 2: what is your favourite colour?", "color", "string")
        return InputRequiredResult(input_requests={"step2": question}, request_state="step 2")
    question = form("Step 1: what is your name?", "name", "string")
    return InputRequiredResult(input_requests={"step1": question}, request_state="step 1")


async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """Hand out a sealed state; the server refuses one that was changed before this tool sees it."""
    if ctx.request_state != "sealed":
        question = form("Shall we go on?", "ok", "boolean")
        return InputRequiredResult(input_requests={"confirm": question}, request_state="sealed")
    return "The state came back unchanged"


async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Ask only in the ways that this request's client can answer."""
    able = ctx.client_capabilities
    questions: InputRequests = {}
    if able and able.elicitation:
        questions["user_name"] = form("What is your name?", "name", "string")
    if able and able.sampling:
        questions["greeting"] = prompt_model("Generate a greeting", 50)
    if not questions or ctx.input_responses:
        return "There is nothing left to ask"
    return InputRequiredResult(input_requests=questions)


async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Report progress, then ask: the stream carries no request of its own."""
    await ctx.report_progress(1, 2, "about to ask")
    if (answer := accepted(ctx, "user_name")) is None:
        return InputRequiredResult(input_requests={"user_name": form("What is your name?", "name", "string")})
    return f"Hello, {answer['name']}!"


async def test_missing_capability(ctx: Context) -> str:
    """Refuse a client whose model cannot be asked."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs a client that can sample", needed)
    return "The client can sample"


def _text(answer: CreateMessageResult) -> str:
    return answer.content.text if isinstance(answer.content, TextContent) else "(not a text)"


TOOLS = (
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_tampered_state,
    test_input_required_result_capabilities,
    test_streaming_elicitation,
    test_missing_capability,
)
