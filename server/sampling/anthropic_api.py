"""Anthropic's Messages API as a sampling handler: requests and answers in its form and the protocol's."""

from types import ModuleType
from typing import Any

from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResultWithTools,
    ImageContent,
    SamplingMessageContentBlock,
    TextContent,
    ToolResultContent,
    ToolUseContent,
)

from taskmill.server.sampling.api_calls import TIMEOUT, Vendor, call_api, refuse_block
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.sampling.request import Answer, model_hints

__all__ = ["AnthropicModel"]

_VENDOR = Vendor("Anthropic", "anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), "ANTHROPIC_BASE_URL")
_STOPS = {"end_turn": "endTurn", "max_tokens": "maxTokens", "stop_sequence": "stopSequence", "tool_use": "toolUse"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


class AnthropicModel:
    """Its SDK is imported when a model is first asked."""

    def __init__(self, model: str) -> None:
        self._model = model

    def fault(self) -> SamplingFailed | None:
        """See `Vendor.fault`."""
        return _VENDOR.fault()

    async def __call__(self, request: CreateMessageRequestParams, /) -> Answer:
        """See `SamplingHandler`."""
        model = next((hint for hint in model_hints(request) if hint.startswith("claude")), self._model)
        body = _body_of(request, model)

        async def send(client: Any) -> Any:
            return await client.messages.create(**body)

        return await call_api(_VENDOR, model, _client, send, _answer_of)


def _client(sdk: ModuleType) -> Any:
    return sdk.AsyncAnthropic(max_retries=0, timeout=TIMEOUT)


def _body_of(request: CreateMessageRequestParams, model: str) -> dict[str, Any]:
    messages = [
        {"role": message.role, "content": [block for one in message.content_as_list for block in _block_of(one)]}
        for message in request.messages
    ]
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "messages": messages}
    if request.system_prompt is not None:
        body["system"] = request.system_prompt
    if request.temperature is not None:
        # The SDK has no argument for it any more: the newest models take none, earlier ones do.
        body["extra_body"] = {"temperature": request.temperature}
    if request.stop_sequences:
        body["stop_sequences"] = request.stop_sequences
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}
            for tool in request.tools
        ]
        if request.tool_choice is not None:
            body["tool_choice"] = {"type": _CHOICES[request.tool_choice.mode or "auto"]}
    return body


def _block_of(block: SamplingMessageContentBlock) -> list[dict[str, Any]]:
    """The block as the API has it; none for a text without words, which it refuses."""
    match block:
        case TextContent():
            return [{"type": "text", "text": block.text}] if block.text.strip() else []
        case ImageContent():
            source = {"type": "base64", "media_type": block.mime_type, "data": block.data}
            return [{"type": "image", "source": source}]
        case ToolUseContent():
            return [{"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}]
        case ToolResultContent():
            inner = [made for one in block.content for made in _result_block_of(one)]
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": block.tool_use_id, "content": inner}
            return [result | ({"is_error": True} if block.is_error else {})]
        case _:
            raise refuse_block(_VENDOR, block)


def _result_block_of(block: Any) -> list[dict[str, Any]]:
    if isinstance(block, TextContent | ImageContent):
        return _block_of(block)
    return [{"type": "text", "text": block.model_dump_json(by_alias=True, exclude_none=True)}]


def _answer_of(message: Any) -> Answer:
    content: list[SamplingMessageContentBlock] = []
    for block in message.content:
        if block.type == "text":
            content.append(TextContent(type="text", text=block.text))
        elif block.type == "tool_use":
            content.append(ToolUseContent(id=block.id, name=block.name, input=dict(block.input)))
    stop = _STOPS.get(message.stop_reason, message.stop_reason)
    return CreateMessageResultWithTools(role="assistant", content=content, model=message.model, stop_reason=stop)
