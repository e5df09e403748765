"""What a tool may ask its user with: each becomes a form that the protocol has, and the answer is what was asked."""

from dataclasses import dataclass
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from mcp_types import ElicitResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field

from taskmill.server import Context, TaskServer
from taskmill.testing import Eager


class Color(Enum):
    RED = "red"
    GREEN = "green"


class Size(Enum):
    SMALL = "S"
    EXTRA_LARGE = "XL"


class Level(IntEnum):
    LOW = 1
    HIGH = 9


class Order(BaseModel):
    color: Color = Field(title="Favourite")
    sizes: list[Size] = []
    level: Level = Level.LOW
    levels: list[Level] | None = None
    only: Literal["a"] = "a"
    note: str | None = None


@dataclass
class Point:
    x: int
    color: Color = Color.RED


SIZES = [{"const": "S", "title": "SMALL"}, {"const": "XL", "title": "EXTRA LARGE"}]


def one(**field: Any) -> dict[str, Any]:
    return {"value": {"title": "Value", **field}}


async def asked(schema: Any, content: Any) -> tuple[dict[str, Any], Any]:
    """The fields that the client is shown, and what the tool gets for `content`; the same in the foreground."""
    got: list[Any] = []
    mcp: TaskServer[Any] = TaskServer("Forms")

    @mcp.tool(task=True)
    async def ask(ctx: Context[Any, Any]) -> str:
        got.append(await ctx.elicit("?", schema))
        return "asked"

    async with Eager(mcp) as eager:
        run = await eager.call("ask", answers=[{"action": "accept", "content": content}])
    assert run.text == "asked"
    shown = run.questions[0]["params"]["requestedSchema"]

    class Session:
        async def elicit_form(self, message: str, requested_schema: Any, related_request_id: str) -> ElicitResult:
            assert (message, requested_schema, related_request_id) == ("?", shown, "7")
            return ElicitResult(action="accept", content=content)

    request: Any = SimpleNamespace(session=Session(), request_id=7)
    now = await Context(request_context=request).elicit("?", schema)
    assert now.action == got[0].action == "accept"
    assert now.data == got[0].data
    return shown["properties"], now.data


@pytest.mark.parametrize(
    ("schema", "field", "sent", "answer"),
    [
        (str, {"type": "string"}, "Ann", "Ann"),
        (int, {"type": "integer"}, 7, 7),
        (bool, {"type": "boolean"}, True, True),
        (["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
        ((1, 2), {"type": "string", "enum": ["1", "2"]}, "2", 2),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "a", "a"),
        (Literal[1, 2], {"type": "string", "enum": ["1", "2"]}, "1", 1),
        (
            {"a": "The first", "b": "The second"},
            {"type": "string", "oneOf": [{"const": "a", "title": "The first"}, {"const": "b", "title": "The second"}]},
            *("a", "a"),
        ),
        (list[Literal["a", "b"]], {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, ["a"], ["a"]),
        ([["a", "b"]], {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, [], []),
        (list[Size], {"type": "array", "items": {"anyOf": SIZES}}, ["XL"], [Size.EXTRA_LARGE]),
    ],
)
async def test_one_answer_is_a_form_of_one_field(schema: Any, field: Any, sent: Any, answer: Any) -> None:
    assert await asked(schema, {"value": sent}) == (one(**field), answer)


@pytest.mark.parametrize(
    ("schema", "field", "sent", "answer"),
    [
        (Color, {"type": "string", "enum": ["red", "green"]}, "green", Color.GREEN),
        (Size, {"type": "string", "oneOf": SIZES}, "S", Size.SMALL),
        (Level, {"type": "string", "enum": ["LOW", "HIGH"]}, "HIGH", Level.HIGH),
    ],
)
async def test_an_enumeration_is_a_choice_that_keeps_its_titles(
    schema: Any, field: Any, sent: str, answer: Any
) -> None:
    """SEP-1330: `oneOf` of const and title."""
    shown, data = await asked(schema, {"value": sent})

    assert shown == {"value": {"title": schema.__name__, **field}}
    assert data is answer


async def test_a_model_may_have_fields_of_enumerations_and_lists_of_them() -> None:
    """SEP-1330: several choices with titles are `items.anyOf`."""
    shown, data = await asked(Order, {"color": "red", "sizes": ["S"], "level": "HIGH", "levels": ["LOW"]})

    assert shown["color"] == {"title": "Favourite", "type": "string", "enum": ["red", "green"]}
    assert shown["sizes"]["items"] == {"anyOf": SIZES}
    assert shown["level"] == {"title": "Level", "type": "string", "enum": ["LOW", "HIGH"], "default": "LOW"}
    assert shown["only"]["enum"] == ["a"]
    assert data == Order(color=Color.RED, sizes=[Size.SMALL], level=Level.HIGH, levels=[Level.LOW])


async def test_a_dataclass_is_a_form() -> None:
    shown, data = await asked(Point, {"x": 1, "color": "green"})

    assert shown["x"] == {"title": "X", "type": "integer"}
    assert data == Point(1, Color.GREEN)


async def test_none_asks_the_user_to_agree() -> None:
    assert await asked(None, None) == ({}, {})


@pytest.mark.parametrize("schema", [7, list[str], [], ["a", "a"], object, "text"])
async def test_what_no_form_can_ask_for_is_a_type_error_that_says_what_can(schema: Any) -> None:
    with pytest.raises(TypeError, match="elicit "):
        await Context().elicit("?", schema)


async def test_a_choice_that_was_not_offered_is_refused() -> None:
    class Session:
        async def elicit_form(self, **given: Any) -> ElicitResult:
            return ElicitResult(action="accept", content={"value": "c"})

    request: Any = SimpleNamespace(session=Session(), request_id=7)
    with pytest.raises(ValueError, match="the accepted answer does not fit the question's schema"):
        await Context(request_context=request).elicit("?", ["a", "b"])


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_model_is_asked_with_texts_by_either_name(by_name: bool) -> None:
    mcp: TaskServer[Any] = TaskServer("Forms")
    prompt: list[Any] = ["Hello.", SamplingMessage(role="assistant", content=TextContent(type="text", text="Hi."))]

    @mcp.tool(task=True)
    async def ask(ctx: Context[Any, Any]) -> str:
        with pytest.raises(TypeError, match="sample takes what to ask once"):
            await ctx.sample()
        with pytest.raises(TypeError, match="sample takes what to ask once"):
            await ctx.sample("a", messages="b")
        answer = await (ctx.sample(messages=prompt) if by_name else ctx.sample(prompt))
        assert isinstance(answer.content, TextContent)
        return answer.content.text

    async with Eager(mcp) as eager:
        run = await eager.call("ask", answers=["seven"])

    assert run.text == "seven"
    assert [(one["role"], one["content"]["text"]) for one in run.questions[0]["params"]["messages"]] == [
        ("user", "Hello."),
        ("assistant", "Hi."),
    ]
