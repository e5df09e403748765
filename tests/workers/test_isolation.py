"""Tools in processes of their own: killed when they must be, alone when they fall, else like any other tool."""

import os
import signal
from dataclasses import replace
from time import monotonic

import pytest

from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.processes import lives
from tests.support.results import text_of_task
from tests.support.store_fixture import OWNER, STRANGER
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

ANSWERS = {
    "input-1": {"action": "accept", "content": {"yes": True}},
    "input-2": {"action": "decline"},
    "input-3": {"role": "assistant", "content": {"type": "text", "text": "Knock knock."}, "model": "small-1"},
    "input-4": {"roots": [{"uri": "file:///home/ann"}]},
}


async def isolating_worker(deployment: Deployment, **settings: object) -> WorkerProcess:
    return await deployment.worker(server="isolated_tools", poll=60, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", ["spin", "spin_on_the_loop"])
async def test_a_tool_that_never_looks_is_cancelled_within_a_second_and_its_neighbours_are_untouched(
    deployment: Deployment, tool: str
) -> None:
    await isolating_worker(deployment)
    gate = deployment.gate()
    neighbours = [
        await deployment.create("walk", journal=str(deployment.journal), gate=str(gate)),
        await deployment.create("stroll", journal=str(deployment.journal), gate=str(gate)),
    ]
    spinning = await deployment.create(tool, journal=str(deployment.journal))
    await deployment.noted("start", times=3)
    (pid,) = [note.pid for note in deployment.notes("start", spinning)]

    began = monotonic()
    await deployment.store.cancel(spinning, OPERATOR)
    await eventually_async(lambda: not lives(pid))
    took = monotonic() - began

    print(f"gone {took * 1000:.0f} ms after the cancel")
    assert took < PROMPTLY
    gate.touch()
    assert [(await deployment.done(task)).record.attempt for task in neighbours] == [1, 1]


async def test_a_tool_that_never_looks_is_timed_out_on_time(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    warm = await deployment.create("complain", how="tool")
    await deployment.done(warm)
    task_id = await deployment.create("spin_too_long", journal=str(deployment.journal))
    started = await deployment.noted("start", task_id)

    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.outcome.text) == (
        Fault.TIMEOUT,
        "spin_too_long ran longer than its limit of 0.5 s.",
    )
    took = monotonic() - started.at
    print(f"timed out {took * 1000:.0f} ms after its start, with a limit of 500 ms")
    assert took < PROMPTLY
    await eventually_async(lambda: not lives(started.pid))


async def test_a_cancelled_tool_may_unwind_and_its_process_is_used_again(deployment: Deployment) -> None:
    await isolating_worker(deployment, concurrency=1)
    first = await deployment.create("walk", journal=str(deployment.journal), gate=str(deployment.gate("never")))
    started = await deployment.noted("start", first)
    await deployment.store.cancel(first, OPERATOR)
    await deployment.noted("cancelled", first)

    second = await deployment.create("speak", count=1)

    assert text_of_task(await deployment.done(second)) == str(started.pid)


@pytest.mark.parametrize(
    ("how", "fault", "text"),
    [
        ("exit", Fault.DIED, "The process of die ended by itself with exit code 3."),
        ("crash", Fault.DIED, "The process of die was killed by SIGSEGV."),
        ("kill", Fault.DIED, "The process of die was killed by SIGKILL."),
        ("sys.exit", Fault.EXITED, "die tried to end its process (SystemExit)."),
    ],
)
async def test_a_process_that_dies_fails_its_task_alone_with_a_clear_fault(
    deployment: Deployment, how: str, fault: Fault, text: str
) -> None:
    worker = await isolating_worker(deployment)
    gate = deployment.gate()
    neighbour = await deployment.create("walk", journal=str(deployment.journal), gate=str(gate))
    await deployment.noted("start", neighbour)

    view = await deployment.done(await deployment.create("die", journal=str(deployment.journal), how=how))

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.outcome.text) == (fault, text)
    assert view.outcome.reference is not None
    assert view.outcome.reference in worker.log()
    gate.touch()
    assert (await deployment.done(neighbour)).record.attempt == 1
    assert text_of_task(await deployment.done(await deployment.create("speak", count=3))).isdigit()


async def test_a_death_is_retried_as_the_policy_says(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    view = await deployment.done(await deployment.create("die_once", journal=str(deployment.journal)))

    assert text_of_task(view) == "attempt 2"
    assert (view.record.failures, view.record.crashes) == (1, 0)


@pytest.mark.parametrize("slowly", [False, True])
async def test_a_tool_over_its_memory_limit_is_stopped_and_says_so(deployment: Deployment, slowly: bool) -> None:
    await isolating_worker(deployment)
    view = await deployment.done(await deployment.create("hoard", slowly=slowly))

    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.MEMORY
    assert view.outcome.text == "hoard used more memory than its limit of 419,430,400 bytes."


async def test_errors_of_the_tool_mean_what_they_mean_elsewhere_and_the_log_has_their_traceback(
    deployment: Deployment,
) -> None:
    worker = await isolating_worker(deployment)
    refused = await deployment.done(await deployment.create("complain", how="tool"))
    crashed = await deployment.done(await deployment.create("complain", how="crash"))

    assert isinstance(refused.outcome, Returned)
    assert refused.outcome.is_error
    assert text_of_task(refused) == "Error executing tool complain: the printer is on fire"
    assert text_of_task(crashed).startswith("Error executing tool complain (reference ")
    assert "swordfish" not in text_of_task(crashed)
    (line,) = worker.said("tool.crashed")
    assert "LookupError: the secret word is swordfish" in line["exception"]
    assert "isolated_tools.py" in line["exception"]


async def test_the_policy_judges_errors_of_there_by_their_class(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    known, unknown, again = [await deployment.create("stumble", how=how) for how in ("known", "unknown", "again")]

    assert text_of_task(await deployment.done(known)) == "attempt 2"
    assert text_of_task(await deployment.done(again)) == "attempt 2"
    assert text_of_task(await deployment.done(unknown)).startswith("Error executing tool stumble")
    assert (await deployment.record(unknown)).attempt == 1


async def test_progress_questions_steps_state_chunks_files_and_prints_work_from_there(deployment: Deployment) -> None:
    worker = await isolating_worker(deployment)
    task_id = await deployment.create("converse")
    asked = await deployment.until(task_id, "input_required")
    assert asked.record.progress.message == "asking"
    (key,) = asked.questions

    await deployment.store.answer(
        task_id, asked.record.principal, {key: {"action": "accept", "content": {"yes": True}}}
    )
    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Returned)
    said = view.outcome.value["structuredContent"]
    assert said == {"yes": True, "steps": [said["pid"], 42], "size": 700_000, "visits": 1, "pid": said["pid"]}
    assert said["pid"] != worker.pid
    assert [chunk.content for chunk in await deployment.store.output.read(task_id)] == ["a chunk"]
    assert "printed, which must not reach the line" in worker.log()


async def test_everything_can_be_asked_at_once_and_a_stream_attached_from_there(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    able = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
    task = deployment.task("consult")
    asks = {"arguments": {}, "client": {"capabilities": able}}
    payload = deployment.store.pack(task.id, asks, tool=task.tool, principal=task.principal)
    await deployment.store.create(replace(task, payload=payload))
    asked = await eventually_async(lambda: deployment.read(task.id), lambda view: len(view.questions) == 4)

    await deployment.store.answer(task.id, asked.record.principal, {key: ANSWERS[key] for key in asked.questions})
    view = await deployment.done(task.id)

    assert isinstance(view.outcome, Returned)
    assert view.outcome.value["structuredContent"] == {"result": ["accept", "decline", "small-1", 1, 8]}


async def test_a_plain_function_asks_steps_and_emits_from_there(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    task_id = await deployment.create("consult_from_thread")
    asked = await deployment.until(task_id, "input_required")
    assert asked.record.progress.message == "asking"

    await deployment.store.answer(task_id, asked.record.principal, {"input-1": ANSWERS["input-1"]})
    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Returned)
    assert view.outcome.value["structuredContent"] == {"result": ["accept", 4]}
    assert [chunk.content for chunk in await deployment.store.output.read(task_id)] == ["a chunk"]


async def test_a_question_by_what_it_returns_is_asked_from_there(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    task_id = await deployment.create("consult_by_return")
    asked = await deployment.until(task_id, "input_required")

    await deployment.store.answer(task_id, asked.record.principal, {"input-1": ANSWERS["input-1"]})

    assert text_of_task(await deployment.done(task_id)) == "accept, known"


@pytest.mark.usefixtures("short_lease")
async def test_an_attempt_in_another_process_reads_back_its_steps_and_answers(deployment: Deployment) -> None:
    """A worker is killed while its tool waits; the next one's process has none of it in memory."""
    first = await isolating_worker(deployment)
    task_id = await deployment.create("converse")
    asked = await deployment.until(task_id, "input_required")
    first.send(signal.SIGKILL)
    await isolating_worker(deployment)
    (key,) = asked.questions
    await deployment.store.answer(
        task_id, asked.record.principal, {key: {"action": "accept", "content": {"yes": True}}}
    )

    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Returned)
    said = view.outcome.value["structuredContent"]
    assert said["visits"] == 2
    assert said["steps"][0] != said["pid"]  # recorded by the process that died with its worker


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_processes_end_with_their_worker_however_that_dies(
    deployment: Deployment, number: signal.Signals
) -> None:
    worker = await isolating_worker(deployment)
    await deployment.create("spin", journal=str(deployment.journal))
    await deployment.create("spin_on_the_loop", journal=str(deployment.journal))
    await deployment.noted("start", times=2)
    pids = {note.pid for note in deployment.notes("start")}

    worker.send(number)
    await worker.ended()

    await eventually_async(lambda: not any(map(lives, pids)))


async def test_the_lifespan_is_entered_once_in_each_process_and_left_when_the_worker_ends_in_order(
    deployment: Deployment,
) -> None:
    journal = deployment.folder / "lifespans"
    worker = await isolating_worker(deployment, env={"CONFINED_LIFESPANS": str(journal)})
    pids = {text_of_task(await deployment.done(await deployment.create("speak", count=1))) for _ in range(3)}
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0

    words = journal.read_text().split("\n")
    assert len(pids) == 1
    for pid in (*pids, worker.pid):
        assert [word for word in words if word.endswith(f" {pid}")] == [f"in {pid}", f"out {pid}"]


async def test_what_a_tool_started_is_killed_with_it(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    task_id = await deployment.create("breed", journal=str(deployment.journal))
    started = await deployment.noted("start", task_id)
    child = await deployment.noted("child", task_id)
    assert lives(child.fence)

    await deployment.store.cancel(task_id, OPERATOR)

    await eventually_async(lambda: not lives(child.fence) and not lives(started.pid))


async def test_a_thousand_reports_hold_no_tool_up_and_the_last_one_is_kept(deployment: Deployment) -> None:
    await isolating_worker(deployment)
    task_id = await deployment.create("speak", count=5000)
    view = await deployment.done(task_id)

    assert view.record.progress.done == 5000
    assert int(text_of_task(view)) != os.getpid()


async def test_what_an_isolated_tool_keeps_for_its_user_outlives_its_worker(deployment: Deployment) -> None:
    gate = deployment.gate()
    arguments = {"journal": str(deployment.journal), "gate": str(gate)}
    worker = await isolating_worker(deployment, lease=1.5)
    task_id = await deployment.create("remember", principal=OWNER, **arguments)
    await deployment.noted("kept", task_id)
    await worker.kill()
    await isolating_worker(deployment, lease=1.5)
    await deployment.noted("kept", task_id, times=2)
    gate.touch()

    assert text_of_task(await deployment.done(task_id)) == "TooLargeToStore: [1, 2] None"
    assert await deployment.store.caller_states.of(OWNER, None).read("attempts", None) == [[1, 2]]
    assert await deployment.store.caller_states.of(STRANGER, None).read("attempts", None) == []
