"""What a running tool has: progress from any thread, which never waits, and questions."""

import asyncio
import threading
from time import monotonic
from typing import Any

import pytest

from taskmill.engine.context import TaskContext
from taskmill.engine.record import Progress


class RecordingPorts:
    """Ports for progress and questions that record their calls, and the thread of each."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.threads: set[int] = set()
        self.asked: list[list[dict[str, Any]]] = []

    def report(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.threads.add(threading.get_ident())

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.asked.append(requests)
        return [{"answer": number} for number, _ in enumerate(requests)]


@pytest.fixture
def ports() -> RecordingPorts:
    return RecordingPorts()


@pytest.fixture
def context(ports: RecordingPorts) -> TaskContext:
    return TaskContext(task_id="t", attempt=2, fence=3, principal="p", report=ports.report, ask=ports.ask)


def test_progress_takes_effect_without_await(context: TaskContext, ports: RecordingPorts) -> None:
    context.report_progress(1, 4, "one")

    assert ports.progress == [Progress(1.0, 4.0, "one")]


async def test_progress_can_be_awaited(context: TaskContext, ports: RecordingPorts) -> None:
    await context.report_progress(message="starting")

    assert ports.progress == [Progress(None, None, "starting")]


async def test_progress_can_be_reported_from_a_thread(context: TaskContext, ports: RecordingPorts) -> None:
    await asyncio.to_thread(context.report_progress, 1, 2)

    assert ports.progress == [Progress(1.0, 2.0)]
    assert threading.get_ident() not in ports.threads


async def test_a_busy_tool_that_awaits_its_progress_yields_to_the_event_loop(context: TaskContext) -> None:
    """Otherwise a tool without another await would starve the worker."""
    others_ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(others_ran.set)
    deadline = monotonic() + 30

    while not others_ran.is_set():
        assert monotonic() < deadline
        await context.report_progress(1)


async def test_most_awaited_reports_do_not_go_through_the_loop(context: TaskContext) -> None:
    """A yield each time would make progress as slow as the loop is busy."""
    yields, reports = 0, 2000

    def tick() -> None:
        nonlocal yields
        yields += 1
        asyncio.get_running_loop().call_soon(tick)

    tick()
    for _ in range(reports):
        await context.report_progress(1)

    assert yields < reports / 4


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 999 + "…"),
        ("half a pair \ud800", "half a pair ?"),
        (42, "42"),
        ("", ""),
        (None, None),
    ],
    ids=["longest", "too long", "surrogate", "not text", "empty", "none"],
)
def test_a_message_becomes_text_that_fits_a_status_line(
    context: TaskContext, ports: RecordingPorts, message: Any, shown: str | None
) -> None:
    context.report_progress(message=message)

    assert ports.progress == [Progress(None, None, shown)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400, -(10**400)])
def test_numbers_that_are_not_finite_count_as_none(context: TaskContext, ports: RecordingPorts, value: float) -> None:
    context.report_progress(value, value)

    assert ports.progress == [Progress()]


def test_what_is_no_number_is_a_type_error_and_is_not_reported(context: TaskContext, ports: RecordingPorts) -> None:
    with pytest.raises(TypeError):
        context.report_progress("half")  # type: ignore[arg-type]
    assert ports.progress == []


async def test_questions_are_asked_together_and_their_answers_come_back_in_order(
    context: TaskContext, ports: RecordingPorts
) -> None:
    assert await context.ask([{"q": 1}, {"q": 2}]) == [{"answer": 0}, {"answer": 1}]
    assert ports.asked == [[{"q": 1}, {"q": 2}]]


def test_a_context_knows_its_attempt_and_can_be_cancelled(context: TaskContext) -> None:
    assert (context.task_id, context.attempt, context.fence, context.principal) == ("t", 2, 3, "p")
    assert not context.cancelled

    context.cancel()

    assert context.cancelled
