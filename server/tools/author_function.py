"""The author's function, made ready to be a tool: what can be made right is made right, the rest is refused in words.

A partial, an object with `__call__`, an async function inside a plain wrapper, positional parameters, aliases of
arguments and a `ctx` without annotation work. What could only fail later, at every call, is refused here.
"""

import functools
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import anyio.to_thread
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import InvalidSignature
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from taskmill.engine.errors import ToolUnfit
from taskmill.engine.threads import in_own_thread
from taskmill.server.context.context import Context
from taskmill.server.tools.result_conversion import is_without_words

__all__ = [
    "AuthorWarning",
    "ContextWarning",
    "ResultWarning",
    "author_function",
    "foresee_result",
    "make_callable",
    "place_of",
    "readable_refusals",
    "without_context",
]

_CONTEXT_NAMES = ("ctx", "context")
_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY
_MISSING = inspect.Parameter.empty


class AuthorWarning(UserWarning):
    """Something in an author's file works otherwise than it looks, or will fail; `remedy` is what to do."""

    remedy = "correct it"


class ContextWarning(AuthorWarning):
    """A parameter without annotation got the context because of its name."""

    remedy = "write the annotation"


class ResultWarning(AuthorWarning):
    """A tool is annotated to return what has no JSON form."""

    remedy = "return a dict, a dataclass or a pydantic model"


def author_function(
    function: Callable[..., Any], name: str | None, *, kind: str = "Tool"
) -> tuple[Callable[..., Any], str]:
    """`function`, or a function in its place that the SDK can register; and its name, by default the function's own.

    `kind`: what it becomes, for the words of a refusal.

    Raises:
        ToolUnfit: it cannot work; the message says what to write instead, and has the line.
    """
    known = name or _name_of(function)
    try:
        if known == "<lambda>":
            raise ToolUnfit("a lambda has no name: give it one, as in mcp.add_tool(function, 'name')")
        return _author_function(function, f"{kind} {known!r}"), known
    except ToolUnfit as exc:
        raise ToolUnfit(f"{kind} {known!r}: {exc}{place_of(function)}") from exc.__cause__


@contextmanager
def readable_refusals(function: Callable[..., Any], name: str, *, kind: str = "Tool") -> Iterator[None]:
    """Say in the author's words what the SDK, or pydantic inside it, refuses at a registration.

    Raises:
        ToolUnfit: it refused the function.
    """
    try:
        yield
    except (InvalidSignature, PydanticUserError, TypeError, ValueError) as exc:
        reason = _schema_fault(function) or str(exc).splitlines()[0]
        raise ToolUnfit(f"{kind} {name!r}: {reason}{place_of(function)}") from exc


def without_context(function: Callable[..., Any], current: Callable[[], Context[Any, Any]]) -> Callable[..., Any]:
    """A function that takes no context and passes `current()` on, if `function` takes one; else `function` itself."""
    name = find_context_parameter(function)
    if name is None:
        return function
    signature = inspect.signature(function)
    kept = [one for one in signature.parameters.values() if one.name != name]
    # Async, so that it reads the context before a plain function gets its thread.
    called = function if inspect.iscoroutinefunction(function) else _as_async(function, in_task=False)

    async def call(**given: Any) -> Any:
        return await called(**{name: current()}, **given)

    call.__name__, call.__doc__ = _name_of(function), function.__doc__
    call.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in kept if one.annotation is not _MISSING}
    return call


def foresee_result(function: Callable[..., Any], name: str) -> None:
    """Warn of a tool whose annotated result has no JSON form: its calls would fail, when their work is done."""
    kind = _signature_of(function).return_annotation
    if kind is _MISSING or not inspect.isclass(kind):
        return
    if is_without_words(kind) and not kind.__module__.startswith(("builtins", "mcp.")):
        try:
            TypeAdapter(kind)
        except (PydanticUserError, TypeError, ValueError):
            text = f"Tool {name!r}: it returns a {kind.__name__}, which has no JSON form, so its calls will fail."
            _warn(function, text, ResultWarning)


def make_callable(tool: Tool, *, in_task: bool) -> None:
    """Let the SDK's call of a registered tool reach the author's function.

    A plain function gets a thread (one of its own in a task: see `engine/threads.py`). What it returns is awaited if it
    can be: a plain function around an async one is an async one.
    """
    if (renames := _renamed_arguments(tool)) is not None:
        tool.fn = _with_names(tool.fn, renames)
    if not tool.is_async:
        tool.fn, tool.is_async = _as_async(tool.fn, in_task=in_task), True


def place_of(function: Callable[..., Any]) -> str:
    """` (tools.py, line 12)`, where the function is defined; empty if that is not known."""
    code = getattr(inspect.unwrap(_inner(function)), "__code__", None)
    return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""


def _author_function(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    if not callable(function):
        raise ToolUnfit(f"{type(function).__name__} cannot be called: register a function")
    _refuse_generator(function)
    signature = _signature_of(function)
    _refuse_parameters(function, signature)
    bare = _bare_context(function, signature)
    is_function = inspect.isroutine(function) and not isinstance(function, staticmethod)
    if bare is None and is_function and not _has_positional(signature):
        return function
    if bare is not None:
        _warn_of_context(function, what, bare)
        known = signature.parameters[bare].replace(annotation=Context[Any, Any])
        signature = signature.replace(
            parameters=[known if p.name == bare else p for p in signature.parameters.values()]
        )
    return _with_signature(function, signature)


def _refuse_generator(function: Callable[..., Any]) -> None:
    inner = _inner(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ToolUnfit(
            "it yields, and must return one result: return a list, and put pieces out on the way with ctx.emit(...)"
        )


def _refuse_parameters(function: Callable[..., Any], signature: inspect.Signature) -> None:
    for position, parameter in enumerate(signature.parameters.values()):
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            instead = f"{parameter.name}: list[str]" if stars == "*" else f"{parameter.name}: dict[str, str]"
            raise ToolUnfit(
                f"it takes {stars}{parameter.name}, and clients send arguments by name: write {instead}. If this is a "
                "decorator's wrapper, give it @functools.wraps"
            )
        if position == 0 and parameter.name in ("self", "cls") and parameter.annotation is _MISSING:
            raise ToolUnfit(
                f"its first argument is {parameter.name}, so it is a method without an object: register the method of "
                f"one, as in mcp.tool()(thing.{getattr(function, '__name__', 'method')})"
            )


def _bare_context(function: Callable[..., Any], signature: inspect.Signature) -> str | None:
    """The parameter that is meant to be the context and does not say so."""
    if any(_is_context(one.annotation) for one in signature.parameters.values()):
        return None
    if find_context_parameter(function) is not None:
        return None
    bare = (name for name in _CONTEXT_NAMES if name in signature.parameters)
    return next((name for name in bare if signature.parameters[name].annotation is _MISSING), None)


def _is_context(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, SdkContext)


def _warn_of_context(function: Callable[..., Any], what: str, name: str) -> None:
    text = f"{what}: {name} gets the context because of its name. Write `{name}: Context` (from taskmill.server)."
    _warn(function, text, ContextWarning)


def _warn(function: Callable[..., Any], text: str, category: type[AuthorWarning]) -> None:
    """Warn with the line of the function."""
    code = getattr(inspect.unwrap(_inner(function)), "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code else ("<unknown>", 0)
    warnings.warn_explicit(text, category, file, line)


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as exc:
        raise ToolUnfit(
            f"its annotation {exc.name!r} has no value when it is registered: import it at the top of the file, not "
            "under `if TYPE_CHECKING`"
        ) from exc
    except (ValueError, TypeError) as exc:
        raise ToolUnfit("its arguments are not known: write a function of your own that calls it") from exc
    # What a partial has set is no argument any more.
    kept = signature.parameters
    if isinstance(function, functools.partial):
        kept = {name: one for name, one in kept.items() if name not in function.keywords}  # type: ignore[assignment]
    return signature.replace(parameters=list(kept.values()))


def _has_positional(signature: inspect.Signature) -> bool:
    return any(parameter.kind is _POSITIONAL for parameter in signature.parameters.values())


def _with_signature(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """A function with this signature and the author's name, whose arguments are all given by name."""
    inner = _inner(function)
    positional = [one.name for one in signature.parameters.values() if one.kind is _POSITIONAL]

    def call(**given: Any) -> Any:
        first = [given.pop(name) for name in positional if name in given]
        return function(*first, **given)

    async def call_async(**given: Any) -> Any:
        return await call(**given)

    made: Any = call_async if inspect.iscoroutinefunction(inner) else call
    functools.update_wrapper(made, inner)
    made.__name__ = _name_of(function)
    made.__doc__ = inner.__doc__ or (None if isinstance(function, functools.partial) else function.__doc__)
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
    made.__signature__ = signature.replace(parameters=parameters)
    made.__annotations__ = {one.name: one.annotation for one in parameters if one.annotation is not _MISSING}
    if signature.return_annotation is not inspect.Signature.empty:
        made.__annotations__["return"] = signature.return_annotation
    return made  # type: ignore[no-any-return]


def _inner(function: Any) -> Any:
    """The function inside partials, or the method behind an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(function, "__call__", function)  # noqa: B004  # the method itself is wanted


def _as_async(function: Callable[..., Any], *, in_task: bool) -> Callable[..., Awaitable[Any]]:
    is_async_inside = inspect.iscoroutinefunction(inspect.unwrap(function))
    in_thread = in_own_thread if in_task else anyio.to_thread.run_sync

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        made: Any
        if is_async_inside:
            made = function(*args, **kwargs)
        else:
            made = await in_thread(functools.partial(function, *args, **kwargs))
        return await made if inspect.isawaitable(made) else made

    return call


def _renamed_arguments(tool: Tool) -> Mapping[str, str] | None:
    """Parameter by the name under which the SDK passes it, where the two differ: the SDK passes an alias."""
    parameters = inspect.signature(tool.fn).parameters
    renames = {}
    for field, info in tool.fn_metadata.arg_model.model_fields.items():
        passed = info.alias or field
        name = field if field in parameters else passed
        if passed != name:
            renames[passed] = name
    return renames or None


def _schema_fault(function: Callable[..., Any]) -> str | None:
    """Which argument, or the result, cannot be written as a JSON schema, in words; None = all can."""
    context = find_context_parameter(function)
    signature = _signature_of(function)
    json = "JSON (str, int, list, dict, a dataclass or a pydantic model)"
    for name, parameter in signature.parameters.items():
        if name != context and not _has_schema(parameter.annotation):
            return (
                f"its argument {name} is of type {_written(parameter.annotation)}, which no client can send: take "
                f"{json}, or read it from ctx.lifespan"
            )
    if not _has_schema(signature.return_annotation):
        return f"its result is of type {_written(signature.return_annotation)}, which has no JSON form: return {json}"
    return None


def _has_schema(annotation: Any) -> bool:
    if annotation is _MISSING:
        return True
    try:
        TypeAdapter(annotation).json_schema()
    except (PydanticUserError, TypeError, ValueError):
        return False
    return True


def _written(annotation: Any) -> str:
    """The annotation as its author wrote it, without the modules of its classes."""
    if inspect.isclass(annotation) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(\w+\.)+(?=\w)", "", str(annotation))


def _name_of(function: Any) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return str(getattr(inner, "__name__", type(inner).__name__))


def _with_names(function: Callable[..., Any], renames: Mapping[str, str]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(**given: Any) -> Any:
            return await function(**{renames.get(name, name): value for name, value in given.items()})

        return call_async

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        return function(**{renames.get(name, name): value for name, value in given.items()})

    return call
