"""The suite's prompts and the completion of their arguments."""

from content import PIXEL_PNG
from mcp.server.mcpserver import Context, MCPServer, Message, UserMessage
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    PromptReference,
    ResourceTemplateReference,
    TextResourceContents,
)
from questions import accepted, form

__all__ = ["add_to"]


def test_simple_prompt() -> list[Message]:
    """A prompt without arguments."""
    return [UserMessage("This is a simple prompt for testing.")]


def test_prompt_with_arguments(arg1: str, arg2: str) -> list[Message]:
    """A prompt that repeats its two arguments."""
    return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
    """A prompt with a resource in it."""
    contents = TextResourceContents(uri=resourceUri, mime_type="text/plain", text="Embedded resource for testing.")
    return [
        UserMessage(EmbeddedResource(type="resource", resource=contents)),
        UserMessage("Please process the embedded resource above."),
    ]


def test_prompt_with_image() -> list[Message]:
    """A prompt with an image in it."""
    image = ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png")
    return [UserMessage(image), UserMessage("Please analyze the image above.")]


async def test_input_required_result_prompt(ctx: Context) -> list[Message] | InputRequiredResult:
    """A prompt that asks for its context before it can be given."""
    if (answer := accepted(ctx, "user_context")) is None:
        question = form("What context should the prompt use?", "context", "string")
        return InputRequiredResult(input_requests={"user_context": question})
    return [UserMessage(f"Use this context: {answer['context']}")]


async def complete(
    ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, context: CompletionContext | None
) -> Completion:
    """Offer the words that go on from what was typed."""
    words = ("testing", "tests", "template")
    return Completion(values=[word for word in words if word.startswith(argument.value)], has_more=False)


def add_to(mcp: MCPServer) -> None:
    """Register the prompts, and the completion for all of them."""
    mcp.prompt()(test_simple_prompt)
    mcp.prompt()(test_prompt_with_arguments)
    mcp.prompt()(test_prompt_with_embedded_resource)
    mcp.prompt()(test_prompt_with_image)
    mcp.prompt()(test_input_required_result_prompt)
    mcp.completion()(complete)  # type: ignore[no-untyped-call]  # the SDK's decorator has no annotations
