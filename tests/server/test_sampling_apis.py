"""The server's own models by the vendors' APIs: what is sent, what comes back, and every way in which none does."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client
from mcp_types import (
    AudioContent,
    CreateMessageRequestParams,
    ImageContent,
    SamplingMessage,
    TextContent,
    Tool,
    ToolChoice,
    ToolResultContent,
    ToolUseContent,
)
from structlog.testing import capture_logs

from taskmill.engine.errors import SettingsError
from taskmill.server import TaskServer
from taskmill.server.sampling.anthropic_api import AnthropicModel
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.sampling.openai_api import OpenAIModel
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.sampling.request import request_of, text_of, tool_calls_of
from tests.support.scripted_model import ScriptedModel, call, say

APIS: list[Any] = [AnthropicModel, OpenAIModel]
ASKED = request_of("Hello?", None)
PIXEL = base64.b64encode(b"png").decode()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedModel]:
    """A model of both APIs, which the environment names."""
    with ScriptedModel([say("Hello!")]) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def conversation() -> CreateMessageRequestParams:
    """Everything that a conversation can have."""
    results: Any = [
        ToolResultContent(tool_use_id="1", content=[TextContent(type="text", text="rain")]),
        ToolResultContent(tool_use_id="2", content=[TextContent(type="text", text="no such city")], is_error=True),
    ]
    calls: Any = [
        TextContent(type="text", text="I look."),
        ToolUseContent(id="1", name="weather", input={"city": "Rome"}),
        ToolUseContent(id="2", name="weather", input={}),
    ]
    picture: Any = [TextContent(type="text", text="Here?"), ImageContent(data=PIXEL, mime_type="image/png")]
    return CreateMessageRequestParams(
        messages=[
            SamplingMessage(role="user", content=picture),
            SamplingMessage(role="assistant", content=calls),
            SamplingMessage(role="user", content=results),
        ],
        system_prompt="Be brief.",
        max_tokens=99,
        temperature=0.5,
        stop_sequences=["END"],
        tools=[Tool(name="weather", description="The weather.", input_schema={"type": "object"})],
        tool_choice=ToolChoice(mode="required"),
    )


async def test_anthropic_is_sent_the_whole_conversation_in_its_form(model: ScriptedModel) -> None:
    answer = await AnthropicModel("claude-test")(conversation())
    assert text_of(answer) == "done"
    assert "sk-ant-secret" in str(model.headers[0])
    (sent,) = model.requests
    assert sent == {
        "model": "claude-test",
        "max_tokens": 99,
        "system": "Be brief.",
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "tools": [{"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Here?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Rome"}},
                    {"type": "tool_use", "id": "2", "name": "weather", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "rain"}]},
                    {
                        "type": "tool_result",
                        "tool_use_id": "2",
                        "content": [{"type": "text", "text": "no such city"}],
                        "is_error": True,
                    },
                ],
            },
        ],
    }


async def test_openai_is_sent_the_whole_conversation_in_its_form(model: ScriptedModel) -> None:
    await OpenAIModel("gpt-test")(conversation())
    assert model.headers[0]["authorization"] == "Bearer sk-secret"
    (sent,) = model.requests
    weather = {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}}
    assert sent == {
        "model": "gpt-test",
        "max_tokens": 99,
        "temperature": 0.5,
        "stop": ["END"],
        "tools": [{"type": "function", "function": weather}],
        "tool_choice": "required",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Here?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
                    {"id": "2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
            {"role": "tool", "tool_call_id": "2", "content": "Error: no such city"},
        ],
    }


async def test_arguments_that_are_no_json_are_the_models_to_correct(model: ScriptedModel) -> None:
    model.script = [[{**call("weather"), "raw": '{"city": "Ro'}]]
    answer = await OpenAIModel("gpt-test")(conversation().model_copy(update={"messages": ASKED.messages}))
    assert tool_calls_of(answer)[0].input == {"arguments_that_are_not_json": '{"city": "Ro'}


@pytest.mark.parametrize("api", APIS)
async def test_a_preferred_model_of_the_same_vendor_is_taken(model: ScriptedModel, api: Any) -> None:
    asked = request_of("Hello?", None, model_preferences=["claude-small", "gpt-small"])
    await api("big")(asked)
    assert model.requests[0]["model"] in ("claude-small", "gpt-small")
    await api("big")(request_of("Hello?", None, model_preferences="llama"))
    assert model.requests[1]["model"] == "big"


@pytest.mark.parametrize("api", APIS)
async def test_a_busy_api_is_asked_again_after_the_time_that_it_names(model: ScriptedModel, api: Any) -> None:
    waits = [(429, {"retry-after": "0.01"}), (529, {"retry-after-ms": "5"}), (503, {"retry-after": "0"})]
    model.refusals = [(status, headers, {}) for status, headers in waits]
    assert text_of(await api("big")(ASKED)) == "Hello!"
    assert len(model.requests) == 4


SECRET = {"type": "error", "error": {"type": "x", "message": "the key sk-ant-secret of prompt swordfish"}}
REFUSALS = [
    ((401, {}, SECRET), "refused_key", r"refused the server's key \(401\)\. Check (ANTHROPIC|OPENAI)_API_KEY", False),
    ((403, {}, SECRET), "refused_key", "Check (ANTHROPIC|OPENAI)_API_KEY", False),
    ((402, {}, SECRET), "no_credit", "has no credit left", False),
    ((404, {}, SECRET), "unknown_model", "has no model 'big'.*Check TASKMILL_SAMPLING_MODEL", False),
    ((400, {}, SECRET), "refused", r"refused the request \(400\); the server's log has its words", False),
    ((429, {"retry-after": "3600"}, SECRET), "rate_limited", "limits the rate", True),
    ((200, {}, b"<html>a proxy</html>"), "bad_answer", "no usable answer. Check (ANTHROPIC|OPENAI)_BASE_URL", False),
    ((200, {}, {"a": "proxy"}), "bad_answer", "no usable answer. Check (ANTHROPIC|OPENAI)_BASE_URL", False),
    ((200, {"content-type": "text/html"}, b"<html>"), "bad_answer", "no usable answer", False),
]


@pytest.mark.parametrize(("refusal", "reason", "words", "retryable"), REFUSALS)
@pytest.mark.parametrize("api", APIS)
async def test_each_refusal_is_told_in_words_without_the_apis_own(
    model: ScriptedModel, api: Any, refusal: Any, reason: str, words: str, retryable: bool
) -> None:
    model.refusals = [refusal]
    with pytest.raises(SamplingFailed, match=words) as told:
        await api("big")(ASKED)
    assert (told.value.reason, told.value.retryable, len(model.requests)) == (reason, retryable, 1)
    assert "secret" not in str(told.value)
    assert "swordfish" not in str(told.value)


@pytest.mark.parametrize("api", APIS)
async def test_an_api_that_stays_busy_is_left_to_the_tools_own_retries(model: ScriptedModel, api: Any) -> None:
    model.refusals = [(529, {"retry-after": "0"}, {})] * 20
    with pytest.raises(SamplingFailed, match=r"overloaded or out of order \(529\)") as told:
        await api("big")(ASKED)
    assert (told.value.retryable, len(model.requests)) == (True, 5)


@pytest.mark.parametrize("api", APIS)
async def test_no_key_is_told_before_anything_is_sent(
    model: ScriptedModel, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SamplingFailed, match=r"has no key for .*: set (ANTHROPIC|OPENAI)_API_KEY"):
        await api("big")(ASKED)
    assert model.requests == []


@pytest.mark.parametrize("api", APIS)
async def test_a_library_that_is_missing_is_named_with_its_extra(
    model: ScriptedModel, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("anthropic", "openai"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SamplingFailed, match=r"pip install 'taskmill\[(anthropic|openai)\]'"):
        await api("big")(ASKED)


async def test_content_that_an_api_does_not_take_is_named(model: ScriptedModel) -> None:
    heard: Any = AudioContent(data=PIXEL, mime_type="audio/ogg")
    asked = request_of(SamplingMessage(role="user", content=heard), None)
    with pytest.raises(SamplingFailed, match="Anthropic does not take audio"):
        await AnthropicModel("big")(asked)
    with pytest.raises(SamplingFailed, match="OpenAI does not take audio"):
        await OpenAIModel("big")(asked)


async def test_a_setting_that_names_no_vendor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMILL_SAMPLING_MODEL", "claude")
    with pytest.raises(SamplingFailed, match="TASKMILL_SAMPLING_MODEL"):
        await OwnModel(None, None).ask(ASKED)


@pytest.mark.parametrize(
    ("variables", "reason", "words"),
    [
        ({"TASKMILL_SAMPLING_MODEL": "openai/gpt"}, None, ""),
        ({"TASKMILL_SAMPLING_MODEL": "openai/gpt", "OPENAI_API_KEY": ""}, "no_key", "set OPENAI_API_KEY"),
        ({"TASKMILL_SAMPLING_MODEL": "anthropic/big", "ANTHROPIC_API_KEY": ""}, "no_key", "set ANTHROPIC_API_KEY"),
        ({"TASKMILL_SAMPLING_MODEL": "openai/gpt", "OPENAI_BASE_URL": "localhost:1"}, "bad_setting", "OPENAI_BASE_URL"),
        ({"TASKMILL_SAMPLING_FROM": "server"}, "bad_setting", "set TASKMILL_SAMPLING_MODEL"),
        ({}, None, ""),
    ],
)
async def test_what_a_model_lacks_is_logged_when_servers_and_workers_start(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str | None, words: str
) -> None:
    monkeypatch.delenv("TASKMILL_REDIS_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mcp: TaskServer[Any] = TaskServer("Models")
    with capture_logs() as logs:
        async with Client(mcp):
            pass
        async with mcp.toolbox():
            pass
    told = [log for log in logs if log["event"] == "sampling.not_ready"]
    assert [log["reason"] for log in told] == ([reason] * 2 if reason else [])
    assert all(words in log["detail"] for log in told)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("MODEL", "claude", "must be anthropic/NAME or openai/NAME"), ("FROM", "both", "'client' or 'server'")],
)
async def test_a_setting_that_cannot_work_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"TASKMILL_SAMPLING_{name}", value)
    mcp: TaskServer[Any] = TaskServer("Models")
    with pytest.raises(SettingsError, match=f"TASKMILL_SAMPLING_{name}: .*{words}"):
        async with mcp.toolbox():
            pass


async def test_the_setting_names_the_model(model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMILL_SAMPLING_MODEL", "openai/org/llama-3")
    monkeypatch.setenv("TASKMILL_SAMPLING_FROM", "server")
    own = OwnModel(None, None)
    answer = await own.ask(ASKED)
    assert (own.is_first, text_of(answer), answer.model) == (True, "Hello!", "org/llama-3")
