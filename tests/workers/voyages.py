"""Voyages: tasks that are interrupted at every place between their awaits, in every order of interruptions.

One worker after the other, one Redis. In each round a new voyage begins, every voyage under way stands at the next of
its six places, and one interruption hits them all; so each window of six rounds is the whole life of one voyage, and a
sequence that holds every window of some length makes every order of interruptions of that length happen.
"""

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis_server import PrivateRedis

from windlass.engine.principal import ANONYMOUS

from .stage import Stage, WorkerProcess, eventually

__all__ = ["INTERRUPTIONS", "PLACES", "Fleet", "every_order"]

INTERRUPTIONS = ("none", "SIGKILL", "SIGTERM", "redis")
PLACES = 6
_ASKS = {0: 1, 2: 2, 4: 3}
"""Place -> number of the question that comes behind it."""
_YES = {"action": "accept", "content": {"yes": True}}
_SETTINGS = {"lease": 0.6, "poll": 0.1, "crash_limit": 1000, "grace": 0.0}


def every_order(length: int) -> list[str]:
    """A shortest round trip in which every order of so many interruptions occurs (a de Bruijn sequence)."""
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


@dataclass
class Voyage:
    """One task, and what has happened to it."""

    task_id: str
    journal: Path
    place: int = 0
    met: list[str] = field(default_factory=list)
    """The interruption at each place so far."""

    def noted(self, what: str) -> int:
        """How often its tool noted something."""
        whole = self.journal.read_text().rpartition("\n")[0] if self.journal.exists() else ""
        return sum(json.loads(line)[0] == what for line in whole.splitlines())


class Fleet:
    """All voyages of one run."""

    def __init__(self, stage: Stage, redis: PrivateRedis) -> None:
        self._stage = stage
        self._redis = redis
        self._under_way: list[Voyage] = []
        self._worker: WorkerProcess | None = None
        self._begun = 0
        self.ended: list[Voyage] = []

    async def sail(self, rounds: Sequence[str]) -> None:
        """One round after the other, then let those still under way go on without interruption."""
        self._worker = await self._stage.worker(**_SETTINGS)
        for interruption in rounds:
            await self._round(interruption, begin=True)
        while self._under_way:
            await self._round("none", begin=False)

    async def _round(self, interruption: str, *, begin: bool) -> None:
        if begin:
            self._begun += 1
            journal = self._stage.folder / f"voyage-{self._begun}"
            task_id = await self._stage.create("voyage", journal=str(journal), folder=str(self._stage.folder))
            self._under_way.append(Voyage(task_id, journal))
        await self._all_at_their_place(1)
        await self._interrupt(interruption)
        if interruption in ("SIGKILL", "SIGTERM"):
            await self._all_at_their_place(2)
        for voyage in self._under_way:
            voyage.met.append(interruption)
            await self._advance(voyage)
        self.ended += [voyage for voyage in self._under_way if voyage.place == PLACES]
        self._under_way = [voyage for voyage in self._under_way if voyage.place < PLACES]

    async def _all_at_their_place(self, times: int) -> None:
        for voyage in self._under_way:
            await eventually(lambda: voyage.noted(f"at {voyage.place}"), lambda seen: seen >= times, within=20)  # noqa: B023

    async def _interrupt(self, interruption: str) -> None:
        assert self._worker is not None
        if interruption == "redis":
            self._redis.kill()
            await asyncio.to_thread(self._redis.start)
            await eventually(self._stage.redis.ping, within=10)
        elif interruption != "none":
            self._worker.send(signal.Signals[interruption])
            await self._worker.ended(within=10)
            self._worker = await self._stage.worker(**_SETTINGS)

    async def _advance(self, voyage: Voyage) -> None:
        """Let it go to its next place, and answer what it asks on the way."""
        (self._stage.folder / f"{voyage.task_id}-{voyage.place}").touch()
        number = _ASKS.get(voyage.place)
        if number is not None:
            key = f"input-{number}"
            await eventually(lambda: self._stage.look(voyage.task_id), lambda view: key in view.questions, within=20)
            assert await self._stage.store.answer(voyage.task_id, ANONYMOUS, {key: _YES}) == 1
        voyage.place += 1
