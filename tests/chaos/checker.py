"""The promises, held against what is left behind: Redis with every task's history, and journals kept outside it.

Run when everything has come to rest. Each problem begins with the invariant it breaks (docs/reliability.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskmill.engine.record import TaskRecord
from taskmill.engine.status import Move, Status
from tests.chaos.clients import json_of
from tests.chaos.journal import STEPS, lines_of
from tests.support.invariants import Found, broken_promises

__all__ = ["Journals", "problems_of", "read_journals"]

TERMINAL = ("completed", "failed", "cancelled")
RETURNED = (Status.COMPLETED, None)
EXPECTED = {
    "refuse": [(Status.FAILED, None)],
    "leave": [(Status.FAILED, "exited")],
    # A worker that stood still for so long finds the result when it looks at the clock.
    "hang": [(Status.FAILED, "timeout"), RETURNED],
    "hog": [(Status.COMPLETED, "crashed")],
}
"""How a task of a tool may end, and the reason, unless somebody cancels it; the other tools return."""
UNKNOWN = -32602


@dataclass
class Journals:
    """What was noted, by kind."""

    effects: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Task, attempt, fence, n: what tools did."""
    steps: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Task -> step, fence: durable steps as they were taken."""
    fetched: list[tuple[str, str]] = field(default_factory=list)
    """Task, what its artifact says of it."""
    created: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Task -> n, tool, principal: acknowledged creations."""
    seen: dict[str, list[tuple[str, str, str | None]]] = field(default_factory=dict)
    """Task -> status, lastUpdatedAt, text of the result if there was one, in the order of the replies."""
    cancelled: dict[str, int] = field(default_factory=dict)
    """Task -> how many replies its client had seen when a cancel was acknowledged."""
    wanted: set[str] = field(default_factory=set)
    """Tasks that somebody asked to cancel, acknowledged or not."""
    told: list[tuple[int, str, bool, str]] = field(default_factory=list)
    """n, tool, is it an error, text: answers to calls without a task."""
    missing: list[tuple[str, int]] = field(default_factory=list)
    """Task, code: an owner's look that was refused."""
    pried: list[tuple[str, str, int]] = field(default_factory=list)
    """Task, method, code (0 = it was answered): somebody else's look."""
    asked: dict[int, str] = field(default_factory=dict)
    """n -> tool: calls made, answered or not."""


def read_journals(folder: Path) -> Journals:
    """Everything noted in a run."""
    journals = Journals()
    for what, _at, *facts in lines_of(folder, "tools"):
        if what == "effect":
            journals.effects.append((facts[0], facts[1], facts[2], facts[3]))
        elif what == "step":
            journals.steps.setdefault(facts[0], []).append((facts[1], facts[2]))
    for what, _at, *facts in lines_of(folder, "client"):
        _client_line(journals, what, facts)
    return journals


def _client_line(journals: Journals, what: str, facts: list[Any]) -> None:
    match what:
        case "asked":
            journals.asked[facts[0]] = facts[1]
        case "created":
            journals.created[facts[0]] = (facts[1], facts[2], facts[4])
        case "seen":
            journals.seen.setdefault(facts[0], []).append((facts[1], facts[2], facts[3]))
        case "cancelling":
            journals.wanted.add(facts[0])
        case "cancelled":
            journals.cancelled.setdefault(facts[0], len(journals.seen.get(facts[0], [])))
        case "told":
            journals.told.append((facts[0], facts[1], facts[2], facts[3]))
        case "fetched":
            journals.fetched.append((facts[0], facts[1]))
        case "missing":
            journals.missing.append((facts[0], facts[1]))
        case "pried":
            journals.pried.append((facts[0], facts[1], facts[2]))


def problems_of(found: Found, journals: Journals) -> list[str]:
    """Every promise that was not kept; [] when all were."""
    ids = set(found.ids())
    return [
        *broken_promises(found),
        *_not_at_rest(found, ids),
        *_of_creations(found, ids, journals),
        *_of_effects(found, ids, journals),
        *_of_steps(found, ids, journals),
        *_of_endings(found, ids, journals),
        *_of_replies(found, ids, journals),
        *_of_answers(found, ids, journals),
        *_of_prying(journals),
    ]


def _not_at_rest(found: Found, ids: set[str]) -> Iterator[str]:
    for task_id in ids:
        record = found.record(task_id)
        if not record.is_terminal:
            yield f"I10: {task_id} ({record.tool}) never ended: {record.status}, attempt {record.attempt}"


def _of_creations(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    for task_id, (n, tool, _) in journals.created.items():
        if task_id not in ids:
            yield f"I9: {task_id} ({tool} {n}) was acknowledged and is lost"
    for task_id, code in journals.missing:
        yield f"I9: the owner of {task_id} was refused with {code}"
    for task_id in ids:
        record = found.record(task_id)
        if task_id in journals.created and journals.created[task_id][1] != record.tool:
            yield f"I9: {task_id} is {record.tool}, acknowledged was {journals.created[task_id][1]}"


def _of_effects(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    """No effect without a claim of exactly this attempt and fence; no success without an effect under its fence."""
    done: dict[str, set[int]] = {}
    for task_id, attempt, fence, n in journals.effects:
        claims = {
            (event.facts.get("attempt"), event.facts.get("fence"))
            for event in (found.events(task_id) if task_id in ids else [])
            if event.move in (Move.CLAIM, Move.RECLAIM)
        }
        if (attempt, fence) not in claims:
            yield f"I6: {task_id} had an effect ({n}) under attempt {attempt}, fence {fence}; claims were {claims}"
        done.setdefault(task_id, set()).add(fence)
    for task_id in ids:
        record = found.record(task_id)
        if record.status is Status.COMPLETED and record.fence not in done.get(task_id, set()):
            yield f"I6: {task_id} completed under fence {record.fence}, effects were under {done.get(task_id)}"


def _of_steps(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    """No step is taken again once the next one was; the kept result is one that was taken."""
    for task_id, taken in journals.steps.items():
        for name, fence in taken:
            later = {step for step, under in taken if under < fence and STEPS.index(step) > STEPS.index(name)}
            if later:
                yield f"I6: {task_id} took the step {name} again under fence {fence}, behind {later}"
    for task_id, replies in journals.seen.items():
        for said in (json_of(text or "") for _, _, text in replies):
            for name, fence in zip(STEPS, said.get("steps", []), strict=False):
                if (name, fence) not in journals.steps.get(task_id, []):
                    yield f"I6: {task_id} kept the step {name} under fence {fence}, and it was not taken then"


def _of_endings(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    """The right end: what its tool does, or a cancel that somebody asked for."""
    for task_id in ids:
        record = found.record(task_id)
        if record.is_terminal and not _is_right(record, journals):
            yield f"I3: {task_id} ({record.tool}) ended {record.status}, reason {record.reason}"


def _is_right(record: TaskRecord, journals: Journals) -> bool:
    if record.status is Status.CANCELLED:
        return record.reason == "client_gone" or record.id in journals.wanted
    return (record.status, record.reason) in EXPECTED.get(record.tool, [RETURNED])


def _of_replies(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    for task_id, replies in journals.seen.items():
        states = [status for status, _, _ in replies]
        ends = [reply for reply in replies if reply[0] in TERMINAL]
        texts = {text for _, _, text in ends} - {None}
        if len({status for status, _, _ in ends}) > 1 or len(texts) > 1:
            yield f"I12: clients saw {task_id} end as {ends}"
        first = next((at for at, status in enumerate(states) if status in TERMINAL), len(states))
        if any(status not in TERMINAL for status in states[first:]):
            yield f"I12: clients saw {task_id} as {states[first:]} after its end"
        moments = [at for _, at, _ in replies]
        if moments != sorted(moments):
            yield f"I14: clients saw {task_id} change at {moments}"
        acknowledged = journals.cancelled.get(task_id)
        if acknowledged is not None and any(status not in TERMINAL for status in states[acknowledged:]):
            yield f"I8: the cancel of {task_id} was acknowledged, and clients then saw {states[acknowledged:]}"
        if ends and task_id in ids and found.record(task_id).status != ends[-1][0]:
            yield f"I12: clients saw {task_id} {ends[-1][0]}, and it is {found.record(task_id).status}"
        for text in texts:
            yield from _of_text(found, ids, journals, task_id, text)
    for task_id, text in journals.fetched:
        yield from _of_text(found, ids, journals, task_id, text)
    for task_id in journals.cancelled:
        if task_id in ids and found.record(task_id).status not in TERMINAL:
            yield f"I8: the cancel of {task_id} was acknowledged, and it is {found.record(task_id).status}"


def _of_text(found: Found, ids: set[str], journals: Journals, task_id: str, text: str | None) -> Iterator[str]:
    """A result says which task, fence and order it is of."""
    said = json_of(text or "")
    if not said or task_id not in ids:
        return
    record, order = found.record(task_id), journals.created.get(task_id)
    if said["task"] != task_id or said["fence"] != record.fence or (order and said["n"] != order[0]):
        yield f"I6: {task_id}, fence {record.fence}, order {order}, shows the result {said}"


def _of_answers(found: Found, ids: set[str], journals: Journals) -> Iterator[str]:
    """A call without a task is answered with the result of a task that completed, of that very order."""
    for n, tool, is_error, text in journals.told:
        said = json_of(text)
        task_id = said.get("task")
        if is_error or not said or said["n"] != n or task_id not in ids:
            yield f"I9: order {n} ({tool}) was answered with {text!r}"
            continue
        record = found.record(task_id)
        if record.status is not Status.COMPLETED or record.fence != said["fence"] or record.tool != tool:
            yield f"I12: order {n} was answered {said}, and its task is {record.status} under fence {record.fence}"


def _of_prying(journals: Journals) -> Iterator[str]:
    for task_id, method, code in journals.pried:
        if code != UNKNOWN:
            yield f"I13: {method} on somebody else's {task_id} was answered with {code or 'the task'}"
