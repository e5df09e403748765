"""A client's trace goes through the queue: the tool runs in it, and where spans are recorded the run is one."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from redis.asyncio import Redis

from taskmill.server import Context, TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import Json, Rpc, client_of, working

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
META = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value", "baggage": "tenant=blue,plan=a%20b"}


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Tracing", store=settings)

    @mcp.tool(task=True)
    async def seen(ctx: Context[Any, Any]) -> dict[str, Any]:
        return _seen()

    @mcp.tool(task=True)
    def seen_in_thread() -> dict[str, Any]:
        return _seen()

    @mcp.tool(task=True)
    async def fail(how: str) -> str:
        if how == "tool":
            raise ToolError("on fire")
        if how == "protocol":
            raise MCPError(-32050, "no")
        raise RuntimeError("the secret word is swordfish")

    return mcp


def _seen() -> dict[str, Any]:
    span = trace.get_current_span().get_span_context()
    return {
        "trace": f"{span.trace_id:032x}",
        "span": f"{span.span_id:016x}",
        "state": dict(span.trace_state),
        "baggage": dict(baggage.get_all()),
    }


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """What is recorded; the provider of a process can be set once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
async def rpc(redis: Redis, settings: StoreSettings, spans: InMemorySpanExporter) -> AsyncIterator[Rpc]:
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        spans.clear()
        yield rpc


async def run(rpc: Rpc, tool: str, meta: Json, **arguments: Any) -> Json:
    reply = await rpc.ask("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, name=tool)
    return await rpc.done(reply["result"]["taskId"])


@pytest.mark.parametrize("tool", ["seen", "seen_in_thread"])
async def test_the_tool_runs_in_the_clients_trace(rpc: Rpc, spans: InMemorySpanExporter, tool: str) -> None:
    task = await run(rpc, tool, META)
    seen = task["result"]["structuredContent"]

    (of_run,) = [span for span in spans.get_finished_spans() if span.name == f"run {tool}"]
    (of_call,) = [span for span in spans.get_finished_spans() if span.name == f"tools/call {tool}"]
    assert seen == {
        "trace": TRACE,
        "span": f"{of_run.context.span_id:016x}",
        "state": {"vendor": "value"},
        "baggage": {"tenant": "blue", "plan": "a b"},
    }
    assert of_run.parent is not None
    assert of_run.parent.span_id == of_call.context.span_id
    assert of_call.parent is not None
    assert f"{of_call.parent.span_id:016x}" == PARENT
    assert (of_run.kind, of_run.status.status_code) == (SpanKind.CONSUMER, StatusCode.UNSET)
    assert dict(of_run.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "taskmill.task.id": task["taskId"],
        "taskmill.task.attempt": 1,
    }


@pytest.mark.parametrize(("how", "kind"), [("tool", "tool_error"), ("protocol", "-32050"), ("crash", "RuntimeError")])
async def test_a_run_that_fails_marks_its_span_and_tells_no_text(
    rpc: Rpc, spans: InMemorySpanExporter, how: str, kind: str
) -> None:
    await run(rpc, "fail", META, how=how)

    (span,) = [span for span in spans.get_finished_spans() if span.name == "run fail"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == kind
    assert "swordfish" not in span.to_json()


@pytest.mark.parametrize(
    "meta",
    [{}, {"traceparent": "nonsense"}, {"traceparent": 7, "baggage": ["x"]}, {"baggage": "x=" + "y" * 9000}],
    ids=["none", "malformed", "not text", "too long"],
)
async def test_a_trace_that_is_none_is_passed_over(rpc: Rpc, meta: Json) -> None:
    seen = (await run(rpc, "seen", meta))["result"]["structuredContent"]
    assert (seen["trace"] != TRACE, seen["state"], seen["baggage"]) == (True, {}, {})


def test_without_an_sdk_the_clients_trace_still_reaches_the_tool() -> None:
    """In a process of its own, because this one has set a provider."""
    program = f"""
from types import SimpleNamespace
from opentelemetry import baggage, trace
from taskmill.server.tools.tracing import run_span, trace_of_call
carried = trace_of_call({META!r})
with run_span("tool", carried, SimpleNamespace(task_id="t", attempt=1)):
    span = trace.get_current_span().get_span_context()
    print(f"{{span.trace_id:032x}} {{span.span_id:016x}}", baggage.get_baggage("tenant"))
print(trace.get_current_span().get_span_context().is_valid, baggage.get_baggage("tenant"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == [f"{TRACE} {PARENT} blue", "False None"]
