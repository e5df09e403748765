"""Replays what earlier attempts of a task have recorded - steps and questions - in order. Pure; no store.

In its main asyncio task a tool repeats its record strictly in order. What it does concurrently, in asyncio tasks that
it starts (`asyncio.gather`), comes in no fixed order, so such an entry is found by its kind, name and digest.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from taskmill.engine.errors import QuestionMismatch, RecordMismatch, StepMismatch

__all__ = ["Entry", "Replay", "question_entry", "step_entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step or question: recorded, or about to be."""

    number: int
    """From 1; the main asyncio task and the concurrent ones are counted apart. A step that raised leaves a gap."""
    concurrent: bool
    """It was made in another asyncio task than the tool's main one."""
    kind: str
    """`step` or `question`."""
    name: str
    """The name of a step; the key under which a question is answered."""
    digest: str
    """Of a step's arguments, or of a question's request."""

    @property
    def mark(self) -> str:
        """Its key in the record: `r3` is the third of the main asyncio task, `b1` the first concurrent one."""
        return f"{'b' if self.concurrent else 'r'}{self.number}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" if self.kind == "step" else f"question {self.name}"


def step_entry(mark: str, name: str, digest: str) -> Entry:
    """A recorded step."""
    return Entry(int(mark[1:]), mark[0] == "b", "step", name, digest)


def question_entry(mark: str, key: str, digest: str) -> Entry:
    """A recorded question."""
    return Entry(int(mark[1:]), mark[0] == "b", "question", key, digest)


class Replay:
    """The record of one task, as one attempt repeats it."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        recorded = sorted(entries, key=lambda entry: entry.number)
        self._ordered = deque(entry for entry in recorded if not entry.concurrent)
        self._unordered = [entry for entry in recorded if entry.concurrent]
        self._asked = sum(entry.kind == "question" for entry in recorded)
        self._next = {False: 1, True: max((entry.number for entry in self._unordered), default=0) + 1}

    def step(self, name: str, digest: str, *, concurrent: bool) -> tuple[Entry, bool]:
        """The entry of the step that the tool runs now, and whether its result is recorded.

        Raises:
            StepMismatch: the record has something else at this point.
        """
        return self._find_or_add("step", name, digest, concurrent)

    def question(self, digest: str, *, concurrent: bool) -> tuple[Entry, bool]:
        """The entry of the question that the tool asks now, and whether it was asked before.

        Raises:
            QuestionMismatch, StepMismatch: the record has something else at this point.
        """
        return self._find_or_add("question", "", digest, concurrent)

    def _find_or_add(self, kind: str, name: str, digest: str, concurrent: bool) -> tuple[Entry, bool]:
        if not concurrent and self._ordered:
            head = self._ordered[0]
            if head.kind == kind and (head.name == name if kind == "step" else head.digest == digest):
                self._next[False] = head.number + 1
                return self._ordered.popleft(), True
            if head.number <= self._next[False]:
                raise _mismatch(head, kind, name)
            # A step that raised while the tool went on has left a gap: it runs again.
            return self._new(kind, name, digest, concurrent), False
        for at, entry in enumerate(self._unordered):
            if entry.kind == kind and entry.digest == digest and (kind == "question" or entry.name == name):
                return self._unordered.pop(at), True
        return self._new(kind, name, digest, concurrent), False

    def _new(self, kind: str, name: str, digest: str, concurrent: bool) -> Entry:
        number = self._next[concurrent]
        self._next[concurrent] += 1
        if kind == "question":
            self._asked += 1
            name = f"input-{self._asked}"
        return Entry(number, concurrent, kind, name, digest)


def _mismatch(recorded: Entry, kind: str, name: str) -> RecordMismatch:
    if recorded.kind == kind == "question":
        return QuestionMismatch(f"Question {recorded.name} differs from the one asked before.")
    now = f"runs step {name!r}" if kind == "step" else "asks a question"
    return StepMismatch(
        f"The tool {now} where its record has {recorded}: it was changed while this task was under way."
    )
