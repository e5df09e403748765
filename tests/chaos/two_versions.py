"""Two versions on one Redis: replicas and workers of both under load, killed and exchanged, until all are of this one.

What must hold is what holds of one version: nothing is lost, nothing ends twice, and clients see one story.

scripts/two-versions --before REV --minutes 3
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.deployment import REPLICAS, ROOT, Deployment, pass_time, until
from tests.chaos.earlier_version import CannotRun, Version, earlier_version
from tests.chaos.faults import Faults
from tests.chaos.run import Plan, Report, run

__all__ = ["CANNOT_RUN", "Both", "OneDeploy", "main", "run_both"]

CANNOT_RUN = 77
_TASKS_A_SECOND = 10
THIS = Version("this version")


class TwoVersions(Deployment):
    """Replicas and workers, each of one of the two versions."""

    def __init__(self, folder: Path, *, before: Version, **more: Any) -> None:
        """`more`: of a deployment."""
        super().__init__(folder, **more)
        self.versions = dict.fromkeys(self.workers, "2")  # of the tools, which are the same everywhere
        self.before = before
        self.of = dict.fromkeys((*self.workers, *REPLICAS), before)
        self.of |= {self.workers[0]: THIS, REPLICAS[0]: THIS}
        self.processes: dict[int, Version] = {}
        """Every process that there was, by its id."""

    async def start(self) -> None:
        """Start everything; returns when every replica answers and every worker works."""
        await super().start()
        await until(lambda: all(map(self.is_up, self.workers)), within=180, what="the workers")

    def exchange(self, name: str, version: Version | None = None) -> None:
        """Start a process that has ended as the other version, or as this one."""
        self.of[name] = version or (self.before if self.of[name] == THIS else THIS)
        self.start_replica(name) if name in REPLICAS else self.start_worker(name)

    def _python(self, name: str) -> str:
        return self.of.get(name, THIS).python

    def _run(self, name: str, *command: str, **more: str) -> None:
        version = self.of.get(name, THIS)
        super()._run(name, *command, **{**more, "PYTHONPATH": ":".join((*version.paths, str(ROOT)))})
        self.processes[self._processes[name].pid] = version


class RollingDeploys(Faults):
    """Kills and stops; what has ended comes back as the same version or as the other one."""

    _deployment: TwoVersions

    def _shuffled(self) -> list[Callable[[], Awaitable[None]]]:
        deck = [self._kill_worker, self._stop_worker, self._kill_replica, self._roll_workers, self._roll_replicas]
        self._chance.shuffle(deck)
        return [*deck, self._roll_replicas, self._roll_workers]  # the last one is the first

    async def _roll_workers(self) -> None:
        await self._roll(self._deployment.workers)

    async def _roll_replicas(self) -> None:
        await self._roll(REPLICAS)

    async def _roll(self, names: Sequence[str]) -> None:
        """One of each version becomes the other; each is told to stop or killed."""
        for version in (THIS, self._deployment.before):
            name = self._chance.choice([name for name in names if self._deployment.of[name] == version])
            end = self._chance.choice((self._deployment.stop, self._deployment.kill))
            await end(name)
            self._deployment.exchange(name)

    def mend(self) -> None:
        """The upgrade is completed: what is left is for this version to end."""
        for name in (*self._deployment.workers, *REPLICAS):
            self._deployment.of[name] = THIS
        super().mend()


class OneDeploy(RollingDeploys):
    """The short form: each worker and one replica is killed once and comes back as the other version."""

    async def run(self, pause: float) -> None:
        """One after the other; then nothing goes wrong any more."""
        for name in (*self._deployment.workers, REPLICAS[0]):
            await pass_time(pause)
            await self._deployment.kill(name)
            self._deployment.exchange(name)
            self.counts["exchange"] = self.counts.get("exchange", 0) + 1
            await until(lambda name=name: self._deployment.is_up(name), within=180, what=name)


@dataclass
class Both:
    """What came of a run of two versions."""

    report: Report
    before: str
    effects: dict[str, int]
    """By the version that the tool ran in."""
    shared: int
    """Tasks that tools of both versions worked on."""

    def lines(self) -> Iterator[str]:
        """For people."""
        of_each = ", ".join(f"{count} by {name}" for name, count in sorted(self.effects.items()))
        yield f"effects: {of_each}; {self.shared} tasks were worked on by both"
        yield from self.report.lines()


async def run_both(plan: Plan, before: Version, faults_of: type[RollingDeploys] = RollingDeploys) -> Both:
    """Carry a plan out with both versions."""
    made: list[TwoVersions] = []

    class Noted(TwoVersions):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            made.append(self)

    report = await run(plan, Noted, faults_of, before=before)
    effects: Counter[str] = Counter()
    workers_of: dict[str, set[str]] = {}
    for pid, version in made[0].processes.items():
        for task_id in _effects_of(plan.folder / "journals" / f"tools-{pid}"):
            effects[version.name] += 1
            workers_of.setdefault(task_id, set()).add(version.name)
    return Both(report, before.name, dict(effects), sum(len(names) > 1 for names in workers_of.values()))


def _effects_of(journal: Path) -> Iterator[str]:
    """The tasks of the effects that a process has noted."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    yield from (facts[0] for what, _at, *facts in map(json.loads, lines) if what == "effect")


def main() -> int:
    """0: every promise was kept; 1: the report says which was not; 77: the earlier version cannot be run."""
    parser = argparse.ArgumentParser(prog="scripts/two-versions", description=__doc__)
    parser.add_argument("--before", default="HEAD~1", help="revision of the earlier version; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=None, help="of the order of kills; random unless given")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and journals")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="two-versions-"))
    try:
        before = earlier_version(options.before, folder / "before", may_install=True)
    except CannotRun as reason:
        print(f"scripts/two-versions: NOT RUN: {reason}")
        return CANNOT_RUN
    print(f"{before.name} and this version, seed {seed}, logs and journals in {folder}", flush=True)
    tasks = max(1, int(options.minutes * 60 * _TASKS_A_SECOND))
    plan = Plan(tasks=tasks, seed=seed, minutes=options.minutes, folder=folder, lease=3, cut_rate=0)
    both = asyncio.run(run_both(plan, before))
    print("\n".join(both.lines()))
    return bool(both.report.problems)


if __name__ == "__main__":
    raise SystemExit(main())
