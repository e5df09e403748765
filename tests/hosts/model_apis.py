"""The scripted model behind the APIs that hosts speak: Anthropic's, OpenAI's two, and Gemini's.

Enough of each for an agent that calls tools, as a stream or whole; nothing is sent anywhere. What the model does is in
`scripted_model.py`.
"""

import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.hosts.scripted_model import Call, Item, Say, Turn, next_turn

__all__ = ["ModelLog", "model_app"]

Json = dict[str, Any]
_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@dataclass
class ModelLog:
    """What the model was given and answered, in order."""

    turns: list[tuple[list[Item], Turn]] = field(default_factory=list)

    def answer(self, items: list[Item], tools: list[str]) -> Turn:
        """The model's turn, kept with what it answers."""
        turn = next_turn(items, tools)
        self.turns.append((items, turn))
        return turn

    @property
    def last_words(self) -> str:
        """What the model said at the end of the script, "" if it has not come to it."""
        said = [turn.text for items, turn in self.turns if isinstance(turn, Say) and turn.text != "ok"]
        return said[-1] if said else ""


def model_app(log: ModelLog) -> Starlette:
    """The model as an HTTP application; hosts name its address as the base URL of their provider."""
    routes = []
    for prefix in ("", "/v1", "/v1/v1"):
        routes += [
            Route(f"{prefix}/messages", _anthropic, methods=["POST"]),
            Route(f"{prefix}/messages/count_tokens", _anthropic_tokens, methods=["POST"]),
            Route(f"{prefix}/responses", _responses, methods=["POST"]),
            Route(f"{prefix}/chat/completions", _chat, methods=["POST"]),
            Route(f"{prefix}/models", _models, methods=["GET"]),
        ]
    for prefix in ("/v1beta/models", "/v1/models", "/v1beta1/models"):
        routes.append(Route(f"{prefix}/{{call:path}}", _gemini, methods=["POST"]))
    methods = ["GET", "POST", "PUT", "HEAD", "DELETE"]
    app = Starlette(routes=[*routes, Route("/{rest:path}", _anything_else, methods=methods)])
    app.state.log = log
    return app


def _text_of(content: Any) -> str:
    """All text in a message's content, whichever API wrote it."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text_of(part) for part in content)
    if "text" in content:
        return str(content["text"])
    return json.dumps(content, ensure_ascii=False)


_count = itertools.count(1)


def _new_id(prefix: str) -> str:
    return f"{prefix}{next(_count)}"


def _event(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def _stream(events: list[bytes]) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for event in events:
            yield event

    return StreamingResponse(body(), media_type="text/event-stream")


def _anthropic_items(body: Json) -> list[Item]:
    items = []
    for message in body.get("messages", []):
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "tool_use":
                items.append(Item("call", id=part["id"], name=part["name"]))
            elif part["type"] == "tool_result":
                items.append(Item("result", _text_of(part.get("content")), id=part["tool_use_id"]))
            elif part["type"] == "text":
                items.append(Item("user" if message["role"] == "user" else "assistant", part["text"]))
    return items


async def _anthropic(request: Request) -> Response:
    body = await request.json()
    turn = request.app.state.log.answer(_anthropic_items(body), [tool["name"] for tool in body.get("tools", [])])
    if isinstance(turn, Call):
        block: Json = {"type": "tool_use", "id": _new_id("toolu_"), "name": turn.name, "input": turn.arguments}
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
    else:
        block = {"type": "text", "text": turn.text}
        empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": turn.text}
    reason = "tool_use" if isinstance(turn, Call) else "end_turn"
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": _new_id("msg_"), "type": "message", "role": "assistant", "model": body.get("model", "scripted"),
               "content": [block], "stop_reason": reason, "stop_sequence": None, "usage": usage}  # fmt: skip
    if not body.get("stream"):
        return JSONResponse(message)
    started = {**message, "content": [], "stop_reason": None}
    events: list[Json] = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return _stream([_event(event, event["type"]) for event in events])


async def _anthropic_tokens(_: Request) -> Response:
    return JSONResponse({"input_tokens": 10})


def _responses_items(body: Json) -> list[Item]:
    items = []
    given = body.get("input", [])
    for part in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = part.get("type", "message")
        if kind in ("function_call", "custom_tool_call"):
            items.append(Item("call", id=part["call_id"], name=part["name"]))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            items.append(Item("result", _text_of(part.get("output")), id=part["call_id"]))
        elif kind == "tool_search_call":
            items.append(Item("call", id=part["call_id"], name="tool_search"))
        elif kind == "tool_search_output":
            items.append(Item("result", json.dumps(part.get("tools")), id=part["call_id"]))
        elif kind == "message":
            items.append(Item("user" if part["role"] == "user" else "assistant", _text_of(part["content"])))
    return items


def _responses_tools(given: list[Json], namespace: str | None = None) -> list[Json]:
    found: list[Json] = []
    for tool in given:
        if tool.get("type") == "namespace":
            found += _responses_tools(tool.get("tools", []), tool["name"])
        else:
            name = tool.get("name") or tool.get("type", "")
            found.append({"name": name, "namespace": namespace, "type": tool.get("type")})
    return found


async def _responses(request: Request) -> Response:
    body = await request.json()
    tools = _responses_tools(body.get("tools") or [])
    for part in body["input"] if isinstance(body.get("input"), list) else []:
        if part.get("type") == "tool_search_output":
            tools += _responses_tools(part.get("tools") or [])
    turn = request.app.state.log.answer(_responses_items(body), [tool["name"] for tool in tools])
    item = _responses_item(turn, tools)
    answer = {"id": _new_id("resp_"), "object": "response", "created_at": int(time.time()), "status": "completed",
              "model": body.get("model", "scripted"), "output": [item], "error": None, "tools": [], "metadata": {},
              "tool_choice": "auto", "parallel_tool_calls": False, "instructions": None,
              "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
                        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15}}  # fmt: skip
    if not body.get("stream"):
        return JSONResponse(answer)
    events = _responses_events(answer, item)
    return _stream([
        _event({"type": name, "sequence_number": number, **data}, name) for number, (name, data) in enumerate(events)
    ])  # fmt: skip


def _responses_item(turn: Turn, tools: list[Json]) -> Json:
    if isinstance(turn, Say):
        content = [{"type": "output_text", "text": turn.text, "annotations": []}]
        return {
            "type": "message",
            "id": _new_id("msg_"),
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    tool = next(tool for tool in tools if tool["name"] == turn.name)
    call_id = _new_id("call_")
    if tool["type"] == "tool_search":
        query = {"query": turn.arguments["query"].removeprefix("select:"), "limit": 8}
        return {"type": "tool_search_call", "id": _new_id("ts_"), "call_id": call_id, "execution": "client",
                "status": "completed", "arguments": query}  # fmt: skip
    item = {"type": "function_call", "id": _new_id("fc_"), "call_id": call_id, "name": turn.name,
            "arguments": json.dumps(turn.arguments), "status": "completed"}  # fmt: skip
    return {**item, "namespace": tool["namespace"]} if tool["namespace"] else item


def _responses_events(answer: Json, item: Json) -> list[tuple[str, Json]]:
    place = {"item_id": item["id"], "output_index": 0}
    empty = {"content": []} if item["type"] == "message" else {}
    added = {"output_index": 0, "item": {**item, "status": "in_progress", **empty}}
    middle: list[tuple[str, Json]] = []
    if item["type"] == "message":
        text, inside = item["content"][0]["text"], {**place, "content_index": 0}
        middle = [
            ("response.content_part.added", {**inside, "part": {"type": "output_text", "text": "", "annotations": []}}),
            ("response.output_text.delta", {**inside, "delta": text}),
            ("response.output_text.done", {**inside, "text": text}),
            ("response.content_part.done", {**inside, "part": item["content"][0]}),
        ]
    elif item["type"] == "function_call":
        words = item["arguments"]
        middle = [
            ("response.function_call_arguments.delta", {**place, "delta": words}),
            ("response.function_call_arguments.done", {**place, "arguments": words, "name": item["name"]}),
        ]
    started = {**answer, "status": "in_progress", "output": [], "usage": None}
    return [
        ("response.created", {"response": started}),
        ("response.output_item.added", added),
        *middle,
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": answer}),
    ]


def _chat_items(body: Json) -> list[Item]:
    items = []
    for message in body.get("messages", []):
        if message["role"] == "tool":
            items.append(Item("result", _text_of(message.get("content")), id=message["tool_call_id"]))
            continue
        if text := _text_of(message.get("content")):
            items.append(Item("user" if message["role"] == "user" else "assistant", text))
        calls = message.get("tool_calls") or []
        items += [Item("call", id=call["id"], name=call["function"]["name"]) for call in calls]
    return items


async def _chat(request: Request) -> Response:
    body = await request.json()
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    turn = request.app.state.log.answer(_chat_items(body), names)
    head = {"id": _new_id("chatcmpl-"), "created": int(time.time()), "model": body.get("model", "scripted")}
    message: Json = {"role": "assistant"}
    if isinstance(turn, Call):
        function = {"name": turn.name, "arguments": json.dumps(turn.arguments)}
        call = {"id": _new_id("call_"), "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
        delta, reason = {**message, "tool_calls": [{"index": 0, **call}]}, "tool_calls"
    else:
        message |= {"content": turn.text}
        delta, reason = message, "stop"
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _USAGE})
    head["object"] = "chat.completion.chunk"
    return _stream([
        _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        _event({**head, "choices": [], "usage": _USAGE}),
        _event("[DONE]"),
    ])  # fmt: skip


def _gemini_items(body: Json) -> list[Item]:
    items = []
    for content in body.get("contents", []):
        for part in content.get("parts", []):
            if call := part.get("functionCall"):
                items.append(Item("call", id=call.get("id") or call["name"], name=call["name"]))
            elif answer := part.get("functionResponse"):
                text = _text_of(answer["response"].get("output", answer["response"]))
                items.append(Item("result", text, id=answer.get("id") or answer["name"]))
            elif "text" in part:
                items.append(Item("assistant" if content.get("role") == "model" else "user", part["text"]))
    return items


async def _gemini(request: Request) -> Response:
    body = await request.json()
    inner = body.get("request", body)  # One of Google's two services wraps the request.
    verb = request.url.path.rpartition(":")[2]
    if verb == "countTokens":
        return JSONResponse({"totalTokens": 10})
    tools = [function["name"] for tool in inner.get("tools") or [] for function in tool.get("functionDeclarations", [])]
    turn = request.app.state.log.answer(_gemini_items(inner), tools)
    if isinstance(turn, Call):
        part: Json = {"functionCall": {"name": turn.name, "args": turn.arguments, "id": _new_id("fc")}}
    elif (inner.get("generationConfig") or {}).get("responseMimeType") == "application/json":
        choice = {
            "reasoning": "",
            "next_speaker": "user",
            "complexity_reasoning": "",
            "complexity_score": 1,
            "model_choice": "flash",
        }
        part = {"text": json.dumps(choice)}
    else:
        part = {"text": turn.text}
    answer: Json = {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        "modelVersion": "scripted", "responseId": _new_id("r"),
    }  # fmt: skip
    answer = {"response": answer} if inner is not body else answer
    return _stream([_event(answer)]) if verb == "streamGenerateContent" else JSONResponse(answer)


async def _models(_: Request) -> Response:
    entry = {"id": "scripted", "object": "model", "created": 1, "owned_by": "tests", "type": "model",
             "display_name": "scripted", "created_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    return JSONResponse(
        {
            "object": "list",
            "data": [entry],
            "models": [],
            "has_more": False,
            "first_id": "scripted",
            "last_id": "scripted",
        }
    )


async def _anything_else(request: Request) -> Response:
    return JSONResponse({}, 200 if request.method == "HEAD" else 404)
