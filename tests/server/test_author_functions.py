"""What an author writes as a tool, a prompt or a resource: it works, or is refused at once, with the line."""

import functools
import importlib
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from mcp import Client
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from taskmill.engine.errors import ToolUnfit
from taskmill.server import Context, TaskServer
from taskmill.server.tools.author_function import ContextWarning, ResultWarning
from taskmill.store.settings import StoreSettings
from taskmill.testing import Eager


class Connection:
    def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    async def __call__(self, name: str) -> str:
        return self.greet(name)


def both(function: Callable[..., Any]) -> TaskServer[Any]:
    """A server that has the function as a task tool, and as a tool that is none."""
    mcp: TaskServer[Any] = TaskServer("Authors")
    mcp.add_tool(function, "late", task=True)
    mcp.add_tool(function, "now")
    return mcp


async def texts(mcp: TaskServer[Any], **arguments: Any) -> set[str]:
    """What both tools of the server answer."""
    async with Eager(mcp) as eager:
        late = (await eager.call("late", arguments)).result
    now: Any = await mcp.call_tool("now", arguments)
    assert not late.is_error, late
    return {"\n".join(block.text for block in one.content) for one in (late, now)}


def refusal(function: Callable[..., Any]) -> str:
    mcp: TaskServer[Any] = TaskServer("Authors")
    with pytest.raises(ToolUnfit) as refused:
        mcp.add_tool(function, "scan", task=True)
    assert "scan" not in mcp.policies()
    return str(refused.value)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(async_generator)])
def test_a_generator_is_refused_with_the_line_and_what_to_write(function: Callable[..., Any]) -> None:
    words = refusal(function)

    assert words.startswith("Tool 'scan': it yields, and must return one result: return a list")
    assert re.search(r"\(test_author_functions.py, line \d+\)$", words)


def test_arguments_without_names_are_refused() -> None:
    def scan(*paths: str) -> str:
        return ""

    def scan_all(**options: str) -> str:
        return ""

    assert "it takes *paths, and clients send arguments by name: write paths: list[str]" in refusal(scan)
    assert "it takes **options, and clients send arguments by name: write options: dict[str, str]" in refusal(scan_all)


def test_a_method_without_its_object_is_refused() -> None:
    assert "register the method of one, as in mcp.tool()(thing.greet)" in refusal(Connection.greet)


def test_an_argument_that_no_client_can_send_is_refused_and_named() -> None:
    def scan(connection: Connection) -> str:
        return ""

    assert "its argument connection is of type Connection, which no client can send" in refusal(scan)


def test_an_annotation_that_has_no_value_is_refused_and_named() -> None:
    def scan(path: "Path") -> str:  # type: ignore[name-defined]  # noqa: F821  # as with an import under TYPE_CHECKING
        return ""

    assert "its annotation 'Path' has no value when it is registered" in refusal(scan)


async def test_an_async_function_inside_a_plain_wrapper_is_awaited() -> None:
    async def scan(path: str, ctx: Context[Any, Any]) -> str:
        return f"{path} {ctx.attempt}"

    @functools.wraps(scan)
    def logged(*args: Any, **kwargs: Any) -> Any:
        return scan(*args, **kwargs)

    def without_wraps(path: str) -> Any:
        return scan(path, Context())

    assert await texts(both(logged), path="a") == {"a 1"}
    assert await texts(both(without_wraps), path="a") == {"a 1"}


async def test_an_argument_with_an_alias_gets_its_value() -> None:
    def scan(x: Annotated[int, Field(alias="externalX")], copy: int = 1, y: int = Field(2, alias="externalY")) -> str:
        return f"{x} {copy} {y}"

    mcp = both(scan)

    assert mcp._tool_manager.get_tool("late").parameters["required"] == ["externalX"]  # type: ignore[union-attr]
    assert await texts(mcp, externalX=7) == {"7 1 2"}
    assert await texts(mcp, externalX=7, copy=8, externalY=9) == {"7 8 9"}


async def test_positional_arguments_are_taken_by_name() -> None:
    def scan(path: str, depth: int = 2, /, *, deep: bool = False) -> str:
        return f"{path} {depth} {deep}"

    assert await texts(both(scan), path="a") == {"a 2 False"}
    assert await texts(both(scan), path="a", depth=3, deep=True) == {"a 3 True"}


async def test_what_a_partial_has_set_is_no_argument() -> None:
    async def scan(path: str, connection: Connection, ctx: Context[Any, Any]) -> str:
        """Scans."""
        return f"{connection.greet(path)} {ctx.attempt}"

    mcp = both(functools.partial(scan, connection=Connection()))

    tool = mcp._tool_manager.get_tool("late")
    assert tool is not None
    assert (list(tool.parameters["properties"]), tool.description) == (["path"], "Scans.")
    assert await texts(mcp, path="Ann") == {"Hello, Ann! 1"}


async def test_an_object_that_can_be_called_is_a_tool_with_the_name_of_its_class() -> None:
    assert await texts(both(Connection()), name="Ann") == {"Hello, Ann!"}
    mcp: TaskServer[Any] = TaskServer("Authors")
    mcp.add_tool(Connection(), task=True)
    mcp.add_tool(functools.partial(Connection().greet, "Ann"))
    assert await mcp.tool_names() == ["Connection", "greet"]


async def test_ctx_without_annotation_gets_the_context_and_a_hint_with_the_line() -> None:
    def scan(path, ctx):  # type: ignore[no-untyped-def]  # as a newcomer writes it
        ctx.report_progress(1, 2) if ctx.task_id else None
        return f"{path} {ctx.attempt}"

    with pytest.warns(ContextWarning, match=r"Tool 'late': ctx gets the context .* Write `ctx: Context`") as hints:
        mcp = both(scan)

    assert len(hints) == 2
    assert hints[0].filename == __file__
    assert await texts(mcp, path="a") == {"a 1"}
    assert "ctx" not in mcp._tool_manager.get_tool("late").parameters["properties"]  # type: ignore[union-attr]


def test_an_argument_called_context_with_a_type_of_its_own_stays_an_argument() -> None:
    def scan(context: str) -> str:
        return context

    assert list(both(scan)._tool_manager.get_tool("now").parameters["properties"]) == ["context"]  # type: ignore[union-attr]


async def test_templates_and_prompts_get_the_context_that_tools_get() -> None:
    mcp: TaskServer[Any] = TaskServer("Authors")

    @mcp.resource("notes://{name}")
    def note(name: str, ctx: Context[Any, Any]) -> str:
        return f"{name} {ctx.attempt} {ctx.principal}"

    @mcp.prompt()
    async def advise(topic: str, ctx: Context[Any, Any]) -> str:
        return f"{topic} {ctx.attempt} {ctx.principal}"

    (content,) = await mcp.read_resource("notes://a")  # type: ignore[misc]  # no question is asked
    rendered: Any = await mcp.get_prompt("advise", {"topic": "b"})

    assert content.content == "a 1 anonymous"
    assert rendered.messages[0].content.text == "b 1 anonymous"


async def test_templates_and_prompts_know_the_context_by_its_name_too() -> None:
    mcp: TaskServer[Any] = TaskServer("Authors")

    def note(name, ctx):  # type: ignore[no-untyped-def]
        return f"{name} {ctx.attempt}"

    with pytest.warns(ContextWarning, match="Resource 'note': ctx gets"):
        mcp.resource("notes://{name}")(note)
    with pytest.warns(ContextWarning, match="Prompt 'advise': ctx gets"):
        mcp.prompt("advise")(note)

    (content,) = await mcp.read_resource("notes://a")  # type: ignore[misc]  # no question is asked
    rendered: Any = await mcp.get_prompt("advise", {"name": "b"})

    assert (content.content, rendered.messages[0].content.text) == ("a 1", "b 1")


async def test_in_the_foreground_progress_is_reported_by_either_name_or_in_words_alone() -> None:
    sent: list[tuple[Any, ...]] = []

    class Session:
        async def report_progress(self, *given: Any) -> None:
            sent.append(given)

    request: Any = SimpleNamespace(session=Session())
    ctx: Context[Any, Any] = Context(request_context=request)

    await ctx.report_progress(current=1, total=2, message="one")
    await ctx.report_progress(progress=2, total=2)
    await ctx.report_progress(message="only words")

    assert sent == [(1, 2, "one"), (2, 2, None), (2, None, "only words")]
    with pytest.raises(TypeError, match="report_progress needs how far the work is"):
        ctx.report_progress()


async def test_state_is_refused_where_the_next_call_would_not_find_it() -> None:
    def count(ctx: Context[Any, Any]) -> str:
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        return str(ctx.state["count"])

    mcp = both(count)

    with pytest.raises(ToolError) as refused:
        await mcp.call_tool("now", {})
    assert "ctx.state belongs to one task and its attempts, and this is no task" in str(refused.value.__cause__)
    late: Any = await mcp.call_tool("late", {})
    assert late.content[0].text == "1"


async def test_a_task_tool_that_no_worker_could_have_is_refused(redis_url: str) -> None:
    mcp: TaskServer[Any] = TaskServer("Authors", store=StoreSettings(redis_url=redis_url))

    def scan() -> str:
        return "scanned"

    async with Client(mcp):
        with pytest.raises(ToolUnfit, match="Tool 'scan': it is registered after the server has started"):
            mcp.add_tool(scan, task=True)
        mcp.add_tool(scan, "scan_now")

    assert await mcp.tool_names() == ["scan_now"]


async def test_a_resource_without_variables_gets_the_context_too() -> None:
    """The SDK refuses it: only its templates get one."""
    mcp: TaskServer[Any] = TaskServer("Authors")

    @mcp.resource("notes://all")
    def notes(ctx: Context[Any, Any]) -> str:
        return f"{ctx.attempt} {ctx.principal}"

    @mcp.resource("notes://later")
    async def later(context: Context[Any, Any]) -> str:
        return f"{context.attempt}"

    def bare(ctx):  # type: ignore[no-untyped-def]
        return f"{ctx.attempt} bare"

    with pytest.warns(ContextWarning, match="Resource 'bare': ctx gets"):
        mcp.resource("notes://bare")(bare)
    async with Client(mcp) as client:
        read = [await client.read_resource(f"notes://{name}") for name in ("all", "later", "bare")]

    assert [result.contents[0].text for result in read] == ["1 local", "1", "1 bare"]  # type: ignore[union-attr]


@pytest.mark.parametrize("uri", ["notes://all", "notes://{id}", "notes://{name}/{?page}"])
def test_a_resource_whose_arguments_are_not_those_of_its_uri_is_refused_with_the_line(uri: str) -> None:
    mcp: TaskServer[Any] = TaskServer("Authors")

    def notes(name: str, page: int) -> str:
        return name

    with pytest.raises(ToolUnfit, match=r"^Resource 'notes': .* \(test_author_functions.py, line \d+\)$"):
        mcp.resource(uri)(notes)


class Box:
    pass


class Labelled:
    def __str__(self) -> str:
        return "label"


def test_a_result_of_an_own_class_without_words_is_foreseen() -> None:
    def boxed() -> Box:
        return Box()

    def labelled() -> Labelled:
        return Labelled()

    def pictured() -> Image:
        return Image(data=b"", format="png")

    mcp: TaskServer[Any] = TaskServer("Authors")
    with pytest.warns(ResultWarning, match="Tool 'boxed': it returns a Box, which has no JSON form") as hints:
        mcp.add_tool(boxed, task=True)
    assert hints[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mcp.add_tool(labelled)
        mcp.add_tool(pictured)


def test_a_result_type_that_no_schema_can_be_made_of_is_refused_in_words() -> None:
    def boxes() -> list[Box]:
        return []

    assert refusal(boxes).startswith(
        "Tool 'scan': its result is of type list[Box], which has no JSON form: return JSON (str, int, list, dict, a "
        "dataclass or a pydantic model)"
    )


@pytest.mark.parametrize("module", ["taskmill", "taskmill.server"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Image", "mcp.server.mcpserver"),
        ("Audio", "mcp.server.mcpserver"),
        ("MCPServer", "mcp.server.mcpserver"),
        ("ToolError", "mcp.server.mcpserver.exceptions"),
        ("TextContent", "mcp.types"),
        ("TestBed", "taskmill.testing"),
        ("StoreSettings", "taskmill.store.settings"),
        ("ToolUnfit", "taskmill.engine.errors"),
    ],
)
def test_a_name_that_is_elsewhere_is_an_error_that_says_where(module: str, name: str, place: str) -> None:
    with pytest.raises(ImportError, match=f"{module} has no {name}. Write: from {place} import {name}"):
        exec(f"from {module} import {name}")


@pytest.mark.parametrize("module", ["taskmill", "taskmill.server"])
def test_a_name_that_is_nowhere_is_pythons_own_error(module: str) -> None:
    found = importlib.import_module(module)
    assert not hasattr(found, "Imge")
    with pytest.raises(ImportError, match="cannot import name 'Imge'"):
        exec(f"from {module} import Imge")
