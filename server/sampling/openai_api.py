"""OpenAI's Chat Completions as a sampling handler, which many other servers speak as well (`OPENAI_BASE_URL`)."""

import json
from types import ModuleType
from typing import Any

from mcp_types import (
    AudioContent,
    CreateMessageRequestParams,
    CreateMessageResultWithTools,
    ImageContent,
    SamplingMessage,
    SamplingMessageContentBlock,
    TextContent,
    ToolResultContent,
    ToolUseContent,
)

from taskmill.server.sampling.api_calls import TIMEOUT, Vendor, call_api, refuse_block
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.sampling.request import Answer, model_hints

__all__ = ["OpenAIModel"]

_VENDOR = Vendor(
    "OpenAI", "openai", ("OPENAI_API_KEY",), "OPENAI_BASE_URL", " (any word, for a server that wants none)"
)
_STOPS = {"stop": "endTurn", "length": "maxTokens", "tool_calls": "toolUse"}
_OWN_NAMES = ("gpt", "chatgpt", "o1", "o3", "o4")
_OWN_HOST = "api.openai.com"
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_NOT_JSON = "arguments_that_are_not_json"


class OpenAIModel:
    """Its SDK is imported when a model is first asked."""

    def __init__(self, model: str) -> None:
        self._model = model

    def fault(self) -> SamplingFailed | None:
        """See `Vendor.fault`."""
        return _VENDOR.fault()

    async def __call__(self, request: CreateMessageRequestParams, /) -> Answer:
        """See `SamplingHandler`."""
        model = next((hint for hint in model_hints(request) if hint.startswith(_OWN_NAMES)), self._model)
        body = _body_of(request, model)

        async def send(client: Any) -> Any:
            # Servers that came after it know the older name only.
            longest = "max_completion_tokens" if client.base_url.host == _OWN_HOST else "max_tokens"
            return await client.chat.completions.create(**body, **{longest: request.max_tokens})

        return await call_api(_VENDOR, model, _client, send, _answer_of)


def _client(sdk: ModuleType) -> Any:
    return sdk.AsyncOpenAI(max_retries=0, timeout=TIMEOUT)


def _body_of(request: CreateMessageRequestParams, model: str) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if request.system_prompt is not None:
        messages.append({"role": "system", "content": request.system_prompt})
    for message in request.messages:
        messages += _messages_of(message)
    body: dict[str, Any] = {"model": model, "messages": messages}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop_sequences:
        body["stop"] = request.stop_sequences
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.input_schema,
                },
            }
            for tool in request.tools
        ]
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice.mode or "auto"
    return body


def _messages_of(message: SamplingMessage) -> list[dict[str, Any]]:
    """The message, or one for each tool result in it."""
    blocks = message.content_as_list
    if message.role == "user":
        results: list[dict[str, Any]] = [
            {"role": "tool", "tool_call_id": block.tool_use_id, "content": _result_text(block)}
            for block in blocks
            if isinstance(block, ToolResultContent)
        ]
        parts = [_part_of(block) for block in blocks if not isinstance(block, ToolResultContent)]
        return results + ([{"role": "user", "content": parts}] if parts else [])
    texts = [block.text for block in blocks if isinstance(block, TextContent)]
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": _arguments_text(block)}}
        for block in blocks
        if isinstance(block, ToolUseContent)
    ]
    return [{"role": "assistant", "content": "\n".join(texts) or None} | ({"tool_calls": calls} if calls else {})]


def _part_of(block: SamplingMessageContentBlock) -> dict[str, Any]:
    match block:
        case TextContent():
            return {"type": "text", "text": block.text}
        case ImageContent():
            return {"type": "image_url", "image_url": {"url": f"data:{block.mime_type};base64,{block.data}"}}
        case AudioContent() if block.mime_type in _AUDIO:
            return {"type": "input_audio", "input_audio": {"data": block.data, "format": _AUDIO[block.mime_type]}}
        case _:
            raise refuse_block(_VENDOR, block)


def _result_text(result: ToolResultContent) -> str:
    """A tool message has text only; other content goes as its JSON, and an error says so in words."""
    texts = [
        one.text if isinstance(one, TextContent) else one.model_dump_json(by_alias=True, exclude_none=True)
        for one in result.content
    ]
    return ("Error: " if result.is_error else "") + "\n".join(texts)


def _arguments_text(call: ToolUseContent) -> str:
    return call.input[_NOT_JSON] if call.input.keys() == {_NOT_JSON} else json.dumps(call.input)


def _answer_of(completion: Any) -> Answer:
    choice = completion.choices[0]
    content: list[SamplingMessageContentBlock] = []
    if choice.message.content:
        content.append(TextContent(type="text", text=choice.message.content))
    for call in choice.message.tool_calls or ():
        if call.type == "function":
            arguments = _arguments_of(call.function.arguments)
            content.append(ToolUseContent(id=call.id, name=call.function.name, input=arguments))
    stop = _STOPS.get(choice.finish_reason, choice.finish_reason)
    model = completion.model
    return CreateMessageResultWithTools(role="assistant", content=content, model=model, stop_reason=stop)


def _arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a call; where they are no JSON object, in a form that no function takes, so that its model
    reads what was wrong."""
    try:
        made = json.loads(text or "{}")
    except ValueError:
        made = None
    return made if isinstance(made, dict) else {_NOT_JSON: text}
