"""OpenTelemetry across the queue: read from the call, stored with the task, made current around the tool.

Only the API is used: without an SDK in the process spans cost nothing, and the client's trace still reaches the tool.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, assert_never

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Failed, Outcome, Refused, Returned

__all__ = ["record_outcome", "run_span", "trace_of_call"]

_TRACE, _BAGGAGE = TraceContextTextMapPropagator(), W3CBaggagePropagator()
_LONGEST = {"traceparent": 128, "tracestate": 1024, "baggage": 8192}
"""Characters that the specifications require support for; a longer value is dropped."""
_tracer = trace.get_tracer("taskmill")


def trace_of_call(meta: Mapping[str, Any] | None) -> dict[str, str]:
    """The part of this request's `_meta` that is stored with the task: `traceparent`, `tracestate`, `baggage`.

    Where this process records spans, the parent of the run is the span of the request, not the client's.
    """
    sent = {name: value for name in _LONGEST if isinstance(value := meta.get(name), str)} if meta else {}
    here: dict[str, str] = {}
    _TRACE.inject(here)
    if "traceparent" in here:
        sent = {**{name: value for name, value in sent.items() if name == "baggage"}, **here}
    return {name: value for name, value in sent.items() if len(value) <= _LONGEST[name]}


def run_span(tool: str, carried: Any, task: TaskContext) -> AbstractContextManager[Span]:
    """Make the call's trace current, with a span of the run as its child."""
    carrier = carried if isinstance(carried, dict) else {}
    if not carrier and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _Untraced()
    return _traced(tool, carrier, task)


class _Untraced:
    """No one records spans, and there is nothing to pass on."""

    __slots__ = ("_token",)

    def __enter__(self) -> Span:
        self._token = otel.attach(otel.Context()) if otel.get_current() else None
        return trace.INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            otel.detach(self._token)


@contextmanager
def _traced(tool: str, carrier: dict[str, Any], task: TaskContext) -> Iterator[Span]:
    context = _BAGGAGE.extract(carrier, _TRACE.extract(carrier, otel.Context()))
    token = otel.attach(context)
    try:
        with _tracer.start_as_current_span(
            f"run {tool}",
            kind=SpanKind.CONSUMER,
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool,
                "taskmill.task.id": task.task_id,
                "taskmill.task.attempt": task.attempt,
            },
            # An exception's text may contain arguments; the log has it, under a reference.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as exc:
                span.set_attribute("error.type", type(exc).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise
    finally:
        otel.detach(token)


def record_outcome(span: Span, outcome: Outcome) -> None:
    """Mark the span of a run that ended in an error; a result leaves it unset."""
    match outcome:
        case Returned(is_error=False):
            return
        case Returned():
            kind = "tool_error"
        case Refused():
            kind = str(outcome.code)
        case Failed():
            kind = outcome.fault.value
        case _:
            assert_never(outcome)
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
