"""Tasks that are interrupted at every place between their awaits, in every order of interruptions.

A series has one worker after the other and one Redis. In each round new tasks begin, every open task stands at the next
of its nine places - before, between and after its steps and questions, and while a question is open - and one
interruption hits them all. So each window of nine rounds is the whole life of a task, and a sequence that holds every
window of some length makes every order of so many interruptions happen at any places in a row.
"""

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskmill.engine.principal import ANONYMOUS
from taskmill.engine.record import TaskView
from tests.support.invariants import is_parked
from tests.support.redis_server import PrivateRedis
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

__all__ = ["INTERRUPTIONS", "PLACES", "TOOLS", "InterruptedTask", "Series", "every_order", "series_of"]

INTERRUPTIONS = ("none", "SIGKILL", "SIGTERM", "redis")
TOOLS = ("interrupted", "interrupted_parked")
"""One waits for its answers in memory, the other leaves it."""
PLACES: tuple[tuple[str, int], ...] = (
    ("at", 0),
    ("asks", 1),
    ("at", 1),  # before the first step
    ("at", 2),
    ("asks", 2),
    ("at", 3),  # before the second step
    ("at", 4),
    ("asks", 3),
    ("at", 5),
)
"""Where a task is interrupted: at one of its six stops, or while it waits for the answer to one of its questions."""
_YES = {"action": "accept", "content": {"yes": True}}
_SETTINGS = {"lease": 0.8, "poll": 0.1, "crash_limit": 1000, "grace": 0.0, "concurrency": 50}
_LIMIT = 30.0


def every_order(length: int) -> list[str]:
    """A shortest closed sequence in which every order of so many interruptions occurs (a de Bruijn sequence)."""
    kinds, word, found = len(INTERRUPTIONS), [0] * (len(INTERRUPTIONS) * length), []

    def extend(at: int, period: int) -> None:
        if at > length:
            if length % period == 0:
                found.extend(word[1 : period + 1])
            return
        word[at] = word[at - period]
        extend(at + 1, period)
        for kind in range(word[at - period] + 1, kinds):
            word[at] = kind
            extend(at + 1, at)

    extend(1, 1)
    return [INTERRUPTIONS[kind] for kind in found]


def series_of(rounds: Sequence[str], count: int) -> list[tuple[list[str], int]]:
    """The sequence as so many series that can run side by side: the rounds of each, and in how many tasks begin.

    The last tasks of a series see the rounds with which the next series begins.
    """
    length = -(-len(rounds) // count)
    starts = range(0, len(rounds), length)
    trip = [*rounds, *rounds, *rounds]
    begun = [min(length, len(rounds) - start) for start in starts]
    ahead = len(PLACES) - 1
    return [(trip[start : start + many + ahead], many) for start, many in zip(starts, begun, strict=True)]


@dataclass
class InterruptedTask:
    """One task, and what has happened to it."""

    task_id: str
    tool: str
    journal: Path
    place: int = 0
    met: list[str] = field(default_factory=list)
    """The interruption at each place so far."""

    def noted(self, what: str) -> int:
        """How often its tool noted something."""
        whole = self.journal.read_text().rpartition("\n")[0] if self.journal.exists() else ""
        return sum(json.loads(line)[0] == what for line in whole.splitlines())


class Series:
    """All tasks of one series of rounds."""

    def __init__(self, deployment: Deployment, redis: PrivateRedis) -> None:
        self._deployment = deployment
        self._redis = redis
        self._under_way: list[InterruptedTask] = []
        self._worker: WorkerProcess | None = None
        self.ended: list[InterruptedTask] = []

    async def run(self, rounds: Sequence[str], begun: int) -> None:
        """One round after the other; tasks of both kinds begin in the first `begun` of them."""
        self._worker = await self._deployment.worker(**_SETTINGS)
        for at, interruption in enumerate(rounds):
            if at < begun:
                self._under_way += [await self._begin(at, tool) for tool in TOOLS]
            await self._round(interruption)
        assert not self._under_way

    async def _begin(self, number: int, tool: str) -> InterruptedTask:
        journal = self._deployment.folder / f"{tool}-{number}"
        task_id = await self._deployment.create(tool, journal=str(journal), folder=str(self._deployment.folder))
        return InterruptedTask(task_id, tool, journal)

    async def _round(self, interruption: str) -> None:
        for interrupted in self._under_way:
            await self._in_place(interrupted)
        await self._interrupt(interruption)
        for interrupted in self._under_way:
            if interruption in ("SIGKILL", "SIGTERM"):
                await self._back_at_its_stop(interrupted)
            interrupted.met.append(interruption)
            await self._advance(interrupted)
        self.ended += [interrupted for interrupted in self._under_way if interrupted.place == len(PLACES)]
        self._under_way = [interrupted for interrupted in self._under_way if interrupted.place < len(PLACES)]

    async def _in_place(self, interrupted: InterruptedTask) -> None:
        kind, number = PLACES[interrupted.place]
        if kind == "at":
            await eventually_async(lambda: interrupted.noted(f"at {number}"), within=_LIMIT)
            return

        def asks(view: TaskView) -> bool:
            is_open = list(view.questions) == [f"input-{number}"]
            return is_open and is_parked(view.record) if interrupted.tool == "interrupted_parked" else is_open

        await eventually_async(lambda: self._deployment.read(interrupted.task_id), asks, within=_LIMIT)

    async def _back_at_its_stop(self, interrupted: InterruptedTask) -> None:
        """One that waits for an answer is answered wherever it is now: held by no worker, or by one that is dead."""
        kind, number = PLACES[interrupted.place]
        if kind == "at":
            await eventually_async(lambda: interrupted.noted(f"at {number}"), lambda seen: seen >= 2, within=_LIMIT)

    async def _interrupt(self, interruption: str) -> None:
        assert self._worker is not None
        if interruption == "redis":
            self._redis.kill()
            await asyncio.to_thread(self._redis.start)
            await eventually_async(self._deployment.redis.ping)
        elif interruption != "none":
            self._worker.send(signal.Signals[interruption])
            await self._worker.ended()
            self._worker = await self._deployment.worker(**_SETTINGS)

    async def _advance(self, interrupted: InterruptedTask) -> None:
        kind, number = PLACES[interrupted.place]
        if kind == "at":
            (self._deployment.folder / f"{interrupted.task_id}-{number}").touch()
        else:
            answers = {f"input-{number}": _YES}
            taken = await eventually_async(
                lambda: self._deployment.store.answer(interrupted.task_id, ANONYMOUS, answers)
            )
            assert taken == 1, interrupted
        interrupted.place += 1
