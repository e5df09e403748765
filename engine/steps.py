"""A step of a tool: how its function is called, and which results can be recorded. Not where they are recorded."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from taskmill.engine.errors import NotSerializable, StepMisused
from taskmill.engine.threads import in_own_thread

__all__ = ["as_json", "current_effect_key", "effect_key", "not_inside", "run_function", "run_step"]

_name: ContextVar[str | None] = ContextVar("taskmill.step", default=None)
"""The step inside which this code runs."""
_effect_key: ContextVar[str | None] = ContextVar("taskmill.effect_key", default=None)


async def run_step(name: str, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of the step's function; inside it there can be no other step."""
    token = _name.set(name)
    try:
        return await run_function(call, args, kwargs)
    finally:
        _name.reset(token)


async def run_function(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of the author's function: an async one runs on the loop, a plain one in a thread.

    A cancel leaves the thread running: it cannot be killed.
    """
    if inspect.iscoroutinefunction(call):
        return await call(*args, **kwargs)
    done = await in_own_thread(partial(call, *args, **kwargs))
    return await done if inspect.isawaitable(done) else done


@contextmanager
def effect_key(key: str | None) -> Iterator[None]:
    """What runs inside has this idempotency key of its own, if it is one; see `current_effect_key`."""
    token = _effect_key.set(key or _effect_key.get())
    try:
        yield
    finally:
        _effect_key.reset(token)


def current_effect_key() -> str | None:
    """The idempotency key of the part of a task that runs now, None where it is the task's own."""
    return _effect_key.get()


def not_inside(what: str) -> None:
    """Refuse what is not allowed inside a step, because the record could not be read back in order.

    Raises:
        StepMisused: the caller is inside a step.
    """
    inside = _name.get()
    if inside is not None:
        raise StepMisused(f"{what} is inside step {inside!r}: put one behind the other.")


def as_json(value: Any, *, what: str) -> Any:
    """`value` as it will be read back: tuples become lists, keys become text.

    Raises:
        NotSerializable: it is not JSON; the message starts with `what`.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as exc:
        raise NotSerializable(
            f"{what} cannot be written as JSON: make it of dict, list, str, int, float, bool and None."
        ) from exc
