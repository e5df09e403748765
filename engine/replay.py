"""What a task has recorded of its earlier attempts - steps and questions - met again in order. Pure; no store.

The tool's own asyncio task goes through its record strictly in order. What it does beside that, in tasks of its own
(`asyncio.gather`), comes in no fixed order, so there an entry is known again by what it is.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from taskmill.engine.errors import QuestionMismatch, RecordMismatch, StepMismatch

__all__ = ["Entry", "Replay", "question_entry", "step_entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step or question, as recorded or as it will be."""

    number: int
    """From 1, in the order of the tool's own task, or of what is beside it. A step that raised leaves a gap."""
    beside: bool
    """It was made in another asyncio task than the tool's own."""
    kind: str
    """`step` or `question`."""
    name: str
    """Of a step; of a question the key under which it is answered."""
    digest: str
    """Of a step's arguments, or of a question's request."""

    @property
    def mark(self) -> str:
        """Where it stands: `r3` is the third of the tool's own task, `b1` the first beside it."""
        return f"{'b' if self.beside else 'r'}{self.number}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" if self.kind == "step" else f"question {self.name}"


def step_entry(mark: str, name: str, digest: str) -> Entry:
    """A recorded step."""
    return Entry(int(mark[1:]), mark[0] == "b", "step", name, digest)


def question_entry(mark: str, key: str, digest: str) -> Entry:
    """A recorded question."""
    return Entry(int(mark[1:]), mark[0] == "b", "question", key, digest)


class Replay:
    """The record of one task, as one attempt goes through it."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        recorded = sorted(entries, key=lambda entry: entry.number)
        self._ordered = deque(entry for entry in recorded if not entry.beside)
        self._loose = [entry for entry in recorded if entry.beside]
        self._asked = sum(entry.kind == "question" for entry in recorded)
        self._next = {False: 1, True: max((entry.number for entry in self._loose), default=0) + 1}

    def step(self, name: str, digest: str, *, beside: bool) -> tuple[Entry, bool]:
        """The entry of the step that the tool runs now, and whether its result is recorded.

        Raises:
            StepMismatch: the record has something else at this point.
        """
        return self._meet("step", name, digest, beside)

    def question(self, digest: str, *, beside: bool) -> tuple[Entry, bool]:
        """The entry of the question that the tool asks now, and whether it was asked before.

        Raises:
            QuestionMismatch, StepMismatch: the record has something else at this point.
        """
        return self._meet("question", "", digest, beside)

    def _meet(self, kind: str, name: str, digest: str, beside: bool) -> tuple[Entry, bool]:
        if not beside and self._ordered:
            head = self._ordered[0]
            if head.kind == kind and (head.name == name if kind == "step" else head.digest == digest):
                self._next[False] = head.number + 1
                return self._ordered.popleft(), True
            if head.number <= self._next[False]:
                raise _mismatch(head, kind, name)
            # A step that had raised, and the tool went on: it has left a gap, and runs again.
            return self._fresh(kind, name, digest, beside), False
        for at, entry in enumerate(self._loose):
            if entry.kind == kind and entry.digest == digest and (kind == "question" or entry.name == name):
                return self._loose.pop(at), True
        return self._fresh(kind, name, digest, beside), False

    def _fresh(self, kind: str, name: str, digest: str, beside: bool) -> Entry:
        number = self._next[beside]
        self._next[beside] += 1
        if kind == "question":
            self._asked += 1
            name = f"input-{self._asked}"
        return Entry(number, beside, kind, name, digest)


def _mismatch(recorded: Entry, kind: str, name: str) -> RecordMismatch:
    if recorded.kind == kind == "question":
        return QuestionMismatch(f"Question {recorded.name} differs from the one asked before.")
    now = f"runs step {name!r}" if kind == "step" else "asks a question"
    return StepMismatch(
        f"The tool {now} where its record has {recorded}: it was changed while this task was under way."
    )
