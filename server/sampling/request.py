"""What `ctx.sample` takes, as the protocol's request, and what is read in an answer. Knows no model and no client."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ModelHint,
    ModelPreferences,
    SamplingMessage,
    TextContent,
    ToolUseContent,
)

__all__ = [
    "Answer",
    "Preferences",
    "Prompt",
    "conversation",
    "digest_of",
    "model_hints",
    "request_of",
    "text_of",
    "tool_calls_of",
    "wants_tools",
]

Prompt = str | SamplingMessage | Sequence[str | SamplingMessage]
"""What a model is asked: the user's words, one message, or a conversation."""
Preferences = str | Sequence[str] | ModelPreferences
"""Names of models, the best first, or the protocol's preferences."""
Answer = CreateMessageResult | CreateMessageResultWithTools
"""What a model answered; with tools in the request its content may be a list."""

_FEW_TOKENS, _MORE_TOKENS = 1024, 4096
"""Longest answer without and with tools, where the author sets none."""


def conversation(prompt: Prompt) -> list[SamplingMessage]:
    """The messages of a prompt."""
    if isinstance(prompt, str):
        return [SamplingMessage(role="user", content=TextContent(type="text", text=prompt))]
    if isinstance(prompt, SamplingMessage):
        return [prompt]
    return [message for one in prompt for message in conversation(one)]


def request_of(
    prompt: Prompt | None,
    messages: Prompt | None,
    *,
    system: str | None = None,
    max_tokens: int | None = None,
    model_preferences: Preferences | None = None,
    tools: Sequence[Any] | None = None,
    **more: Any,
) -> CreateMessageRequestParams:
    """The request; `messages` is another name of `prompt`, `system` of `system_prompt`.

    Raises:
        TypeError: one of these is given twice, or nothing is asked.
        ValueError: an unknown option, or a value that it cannot have.
    """
    asked = messages if prompt is None else prompt
    if asked is None or (prompt is not None and messages is not None):
        raise TypeError("sample takes what to ask once: prompt or messages, which mean the same.")
    if system is not None:
        if more.get("system_prompt") is not None:
            raise TypeError("sample takes system or system_prompt, which mean the same, not both.")
        more["system_prompt"] = system
    given = {
        "messages": conversation(asked),
        "max_tokens": max_tokens or (_FEW_TOKENS if tools is None else _MORE_TOKENS),
        "model_preferences": _preferences(model_preferences),
        "tools": None if tools is None else list(tools),
        **more,
    }
    return CreateMessageRequestParams.model_validate(given, extra="forbid")


def wants_tools(request: CreateMessageRequestParams) -> bool:
    """Whether the answer may be a tool call."""
    return request.tools is not None or request.tool_choice is not None


def text_of(answer: Answer | SamplingMessage) -> str:
    """The text of an answer, without what else it has."""
    blocks = answer.content if isinstance(answer.content, list) else [answer.content]
    return "\n".join(block.text for block in blocks if isinstance(block, TextContent))


def tool_calls_of(answer: Answer | SamplingMessage) -> list[ToolUseContent]:
    """The tool calls of an answer, in its order."""
    blocks = answer.content if isinstance(answer.content, list) else [answer.content]
    return [block for block in blocks if isinstance(block, ToolUseContent)]


def model_hints(request: CreateMessageRequestParams) -> list[str]:
    """Names of models that the author prefers, the best first."""
    hints = request.model_preferences.hints if request.model_preferences else None
    return [hint.name for hint in hints or () if hint.name]


def digest_of(request: CreateMessageRequestParams) -> str:
    """The same for the same request."""
    wire = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()[:32]


def _preferences(given: Preferences | None) -> ModelPreferences | None:
    if given is None or isinstance(given, ModelPreferences):
        return given
    names = [given] if isinstance(given, str) else list(given)
    return ModelPreferences(hints=[ModelHint(name=name) for name in names])
