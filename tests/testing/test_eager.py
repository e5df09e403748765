"""Eager: a tool runs at once, with a real context, and everything it says and leaves is in the run."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from taskmill.engine.errors import BadArguments
from taskmill.engine.record import Progress
from taskmill.testing import Eager
from tests.testing.tools import Order, mcp


@pytest.fixture
async def eager() -> AsyncIterator[Eager]:
    async with Eager(mcp) as made:
        yield made


async def test_a_run_has_the_result_and_every_report(eager: Eager) -> None:
    run = await eager.call("pack", {"count": 3})

    assert run.text == "3 boxes from north"
    assert run.progress == [Progress(number, 3, f"box {number}") for number in (1, 2, 3)]
    assert run.messages == ["box 1", "box 2", "box 3"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"size": "XL"}, "XL"),
        (Order(size="S"), "S"),
        ("decline", "decline"),
        ("cancel", "cancel"),
        ({"action": "accept", "content": {"size": "M"}}, "M"),
    ],
    ids=["content", "model", "decline", "cancel", "whole result"],
)
async def test_questions_get_the_tests_answers(eager: Eager, answer: Any, text: str) -> None:
    run = await eager.call("order", answers=[answer])

    assert run.text == text
    assert [question["params"]["message"] for question in run.questions] == ["Which size?"]


async def test_a_model_and_roots_answer_in_short(eager: Eager) -> None:
    run = await eager.call("consult", answers=["seven", ["file:///srv"]])
    assert run.text == "seven in file:///srv"


async def test_an_answer_that_is_none_is_refused(eager: Eager) -> None:
    with pytest.raises(AssertionError, match="7 is no answer to elicitation/create"):
        await eager.call("order", answers=[7])


async def test_answers_may_depend_on_the_question(eager: Eager) -> None:
    run = await eager.call("order", answers=lambda question: {"size": question["params"]["message"][:5]})
    assert run.text == "Which"


async def test_a_question_the_test_has_no_answer_to_fails_the_test_and_names_it(eager: Eager) -> None:
    with pytest.raises(AssertionError, match="the tool asked 'Which size\\?', and the test has no answer left"):
        await eager.call("order")


async def test_what_a_tool_leaves_is_in_the_run(eager: Eager) -> None:
    run = await eager.call("leave", claims={"email": "ann@example.com"}, attempt=2)

    assert run.output == ["first ", {"then": 2}]
    assert run.artifacts == {"rows.csv": b"a,b\n1,2\n"}
    assert run.text == "rows.csv 8 for ann@example.com on attempt 2"


async def test_recorded_steps_are_read_back(eager: Eager) -> None:
    assert (await eager.call("stepwise")).steps == ["one", "two"]
    resumed = await eager.call("stepwise", attempt=2, recorded={"one": "recorded"})
    assert (resumed.steps, resumed.text) == (["two"], "recorded 2")


async def test_a_crash_is_raised_as_it_was(eager: Eager) -> None:
    with pytest.raises(LookupError, match="shelf 7"):
        await eager.call("fail", {"how": "crash"})


async def test_an_error_of_the_tools_own_is_its_result(eager: Eager) -> None:
    run = await eager.call("fail", {"how": "tool"})
    assert (run.result.is_error, run.text) == (True, "Error executing tool fail: out of boxes")
    with pytest.raises(MCPError, match="closed"):
        await eager.call("fail", {"how": "protocol"})


async def test_arguments_are_checked_as_in_a_call(eager: Eager) -> None:
    run = await eager.call("pack", {"count": "many"})
    assert run.result.is_error
    with pytest.raises(BadArguments, match=r"no task tool 'quick'. Task tools: consult, fail, leave, order"):
        await eager.call("quick")


async def test_progress_is_reported_by_either_name_or_in_words_alone(eager: Eager) -> None:
    run = await eager.call("report_by_name")

    assert run.progress == [Progress(1, 2, "one"), Progress(2, 2, "two"), Progress(None, None, "only words")]
    assert run.text == "both are one too many"
