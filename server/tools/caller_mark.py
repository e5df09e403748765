"""What a tool's own calls to MCP servers tell of the queue that its task is from.

A task that waits for one that waits for the same slot never ends, and only the server that gets the call can notice.

The SDK's client writes the trace of the caller into each request's `_meta`, by OpenTelemetry's propagators; the mark is
one of them. It can go when the SDK lets a process add to the `_meta` of all its requests.
"""

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

__all__ = ["caller_mark", "is_called_from", "marked_calls", "send_marks"]

_FIELD = "taskmill-queue"
_mark: ContextVar[str | None] = ContextVar("mark", default=None)


@lru_cache(maxsize=1024)
def caller_mark(server: str, queue: str) -> str:
    """The mark of a queue of a server; it shows neither name, since a call may go to any server."""
    return hashlib.sha256(f"{server}/{queue}".encode()).hexdigest()[:16]


def is_called_from(mark: str, meta: Mapping[str, Any] | None) -> bool:
    """Whether a task of the queue with this mark makes the call with this `_meta`."""
    return (meta or {}).get(_FIELD) == mark


class marked_calls:
    """Calls that are made in the block have the mark. A class: a generator costs more than many tools do."""

    __slots__ = ("_before", "_name")

    def __init__(self, mark: str) -> None:
        self._name = mark

    def __enter__(self) -> None:
        self._before = _mark.set(self._name)

    def __exit__(self, *_: object) -> None:
        _mark.reset(self._before)


def send_marks() -> None:
    """Have the SDK's client send the marks of this process."""
    known = propagate.get_global_textmap()
    if _FIELD not in known.fields:
        propagate.set_global_textmap(CompositePropagator([known, _MarkPropagator()]))


class _MarkPropagator(TextMapPropagator):
    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read nothing: only the server looks at the mark."""
        return context if context is not None else Context()

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the mark, if there is one."""
        if (mark := _mark.get()) is not None:
            setter.set(carrier, _FIELD, mark)

    @property
    def fields(self) -> set[str]:
        """What `inject` may write."""
        return {_FIELD}
