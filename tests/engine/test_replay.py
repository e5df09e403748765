"""Replay of what earlier attempts recorded: in order in the tool's main task, by content in concurrent tasks."""

import pytest

from taskmill.engine.errors import QuestionMismatch, StepMismatch
from taskmill.engine.replay import Entry, Replay, question_entry, step_entry


def run(replay: Replay, *calls: tuple[str, str]) -> list[tuple[str, bool]]:
    """Replay calls in the tool's main task: (step, name) or (question, digest); returns mark and whether recorded."""
    entries = []
    for kind, what in calls:
        entry, known = (
            replay.step(what, "args", concurrent=False) if kind == "step" else replay.question(what, concurrent=False)
        )
        entries.append((entry.mark, known))
    return entries


RECORD = [
    step_entry("r1", "fetch", "args"),
    question_entry("r2", "input-1", "sure?"),
    step_entry("r3", "send", "args"),
]


def test_without_a_record_everything_is_new_and_numbered() -> None:
    calls = [("step", "fetch"), ("question", "sure?"), ("step", "send")]

    assert run(Replay(), *calls) == [("r1", False), ("r2", False), ("r3", False)]


def test_a_record_is_read_back_in_order_and_then_goes_on() -> None:
    calls = [("step", "fetch"), ("question", "sure?"), ("step", "send"), ("question", "more?")]

    assert run(Replay(RECORD), *calls) == [("r1", True), ("r2", True), ("r3", True), ("r4", False)]


def test_the_order_of_the_record_is_that_of_its_numbers_also_beyond_nine() -> None:
    entries = [step_entry(f"r{n}", f"s{n}", "args") for n in (10, 2, 1, 9, 3, 4, 5, 6, 7, 8)]

    assert run(Replay(entries), *(("step", f"s{n}") for n in range(1, 11))) == [(f"r{n}", True) for n in range(1, 11)]


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ([("step", "load")], "The tool runs step 'load' where its record has step 'fetch'"),
        ([("question", "sure?")], "The tool asks a question where its record has step 'fetch'"),
        ([("step", "fetch"), ("step", "send")], "The tool runs step 'send' where its record has question input-1"),
    ],
)
def test_the_error_for_another_step_names_the_recorded_one(calls: list[tuple[str, str]], complaint: str) -> None:
    with pytest.raises(StepMismatch, match=complaint):
        run(Replay(RECORD), *calls)


def test_the_error_for_another_question_names_the_recorded_one() -> None:
    with pytest.raises(QuestionMismatch, match=r"Question input-1 differs from the one asked before\."):
        run(Replay(RECORD), ("step", "fetch"), ("question", "really?"))


def test_a_step_that_raised_leaves_a_gap_and_runs_again_in_its_place() -> None:
    """The tool caught the error and went on; the second attempt does the same."""
    record = [step_entry("r1", "a", "args"), step_entry("r3", "c", "args")]
    calls = [("step", "a"), ("step", "b"), ("step", "c"), ("step", "d")]

    assert run(Replay(record), *calls) == [("r1", True), ("r2", False), ("r3", True), ("r4", False)]


def test_no_more_fits_into_a_gap_than_was_there() -> None:
    record = [step_entry("r1", "a", "args"), step_entry("r3", "c", "args")]

    with pytest.raises(StepMismatch, match="runs step 'x' where its record has step 'c'"):
        run(Replay(record), ("step", "a"), ("step", "b"), ("step", "x"))


def test_a_loop_that_tries_a_step_until_it_works_finds_the_one_that_did() -> None:
    record = [step_entry("r3", "try", "args"), step_entry("r4", "next", "args")]

    assert run(Replay(record), ("step", "try"), ("step", "next")) == [("r3", True), ("r4", True)]


def test_in_the_main_task_a_step_is_known_by_its_name_and_not_by_its_arguments() -> None:
    """They may contain the time of day."""
    entry, known = Replay(RECORD).step("fetch", "other args", concurrent=False)

    assert (entry, known) == (RECORD[0], True)


def test_in_concurrent_tasks_the_order_does_not_matter_and_the_arguments_do() -> None:
    one, two = step_entry("b1", "fetch", "one"), step_entry("b2", "fetch", "two")
    replay = Replay([one, two])

    assert replay.step("fetch", "two", concurrent=True) == (two, True)
    assert replay.step("fetch", "three", concurrent=True) == (Entry(3, True, "step", "fetch", "three"), False)
    assert replay.step("fetch", "one", concurrent=True) == (one, True)


def test_a_branch_that_runs_ahead_of_last_time_still_finds_its_record() -> None:
    """Two branches ask two questions each; last time the second branch was faster."""
    record = [question_entry(f"b{n}", f"input-{n}", text) for n, text in enumerate(("a1", "b1", "b2"), 1)]
    replay = Replay(record)

    keys = [(replay.question(text, concurrent=True)[0].name) for text in ("a1", "b1", "a2", "b2")]

    assert keys == ["input-1", "input-2", "input-4", "input-3"]


def test_two_questions_with_the_same_words_are_two_questions() -> None:
    replay = Replay([question_entry("b1", "input-1", "ok?")])

    assert [replay.question("ok?", concurrent=True)[1] for _ in range(2)] == [True, False]


def test_keys_of_questions_are_never_used_twice() -> None:
    replay = Replay([question_entry("r2", "input-1", "sure?"), question_entry("b1", "input-2", "ok?")])

    assert replay.question("new", concurrent=True)[0].name == "input-3"
