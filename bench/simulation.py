"""Predicts how many tasks a second a deployment settles, from what one task costs: processors, workers, Redis, slots.

A discrete-event simulation, pure and without chance. Each worker and each Redis is one thread; they share the machine's
cores evenly; a worker claims and settles in turns for half of its slots, two at a time, as `workers/loop.py` does.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Costs", "Deployment", "predict"]

_TURNS = 2
"""Round trips that a worker has under way at most."""
_NOTHING = 1e-9


@dataclass(frozen=True)
class Costs:
    """What was measured, in microseconds of one processor."""

    worker: float
    """Of a worker, a task."""
    run: float
    """Of Redis, to hand a task out and settle it."""
    create: float = 0.0
    """Of Redis, to create a task."""
    poll: float = 0.0
    """Of Redis, to answer one look at a task."""

    def most(self, *, polls: float = 0.0) -> float:
        """Tasks a second of one Redis that does nothing else, each looked at so many times."""
        return 1e6 / (self.create + self.run + polls * self.poll)


@dataclass(frozen=True)
class Deployment:
    """What runs."""

    workers: int
    """Processes a shard."""
    concurrency: int = 10
    """Slots of each."""
    cores: int = 2
    """Of the one machine that everything shares; 0 = each process has its own."""
    shards: int = 1
    """Redis servers."""
    tool_ms: float = 0.0
    """What a task waits for without using the processor."""


def predict(costs: Costs, deployment: Deployment, *, tasks: int = 4000) -> float:
    """Tasks a second from a full queue, counted behind the first fifth."""
    world = _World(deployment.cores)
    for _ in range(deployment.shards):
        redis = _Thread()
        world.threads.append(redis)
        for _ in range(deployment.workers):
            worker = _Worker(world, redis, costs, deployment)
            world.threads.append(worker.thread)
            worker.take_turns()
    return world.run(tasks)


class _Thread:
    """Does one thing after the other."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, Callable[[], None]]] = deque()
        self.left = 0.0
        """Microseconds of what it is doing, 0 = idle."""

    def add(self, work: float, done: Callable[[], None]) -> None:
        self._jobs.append((max(work, _NOTHING), done))
        if not self.left:
            self.left = self._jobs[0][0]

    def finish(self) -> Callable[[], None]:
        _, done = self._jobs.popleft()
        self.left = self._jobs[0][0] if self._jobs else 0.0
        return done


class _World:
    """The clock, and who is at work."""

    def __init__(self, cores: int) -> None:
        self.threads: list[_Thread] = []
        self.settled = 0
        self._cores = cores
        self._now = 0.0
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def later(self, delay: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (self._now + delay, next(self._order), call))

    def run(self, tasks: int) -> float:
        began, first = 0.0, 0
        while self.settled < tasks:
            self._step()
            if not first and self.settled >= tasks / 5:
                began, first = self._now, self.settled
        return (self.settled - first) / (self._now - began) * 1e6

    def _step(self) -> None:
        """Go on to the next moment at which something ends."""
        busy = [thread for thread in self.threads if thread.left]
        pace = min(1.0, self._cores / len(busy)) if self._cores and busy else 1.0
        soonest = min((thread.left for thread in busy), default=float("inf")) / pace
        alarm = self._alarms[0][0] - self._now if self._alarms else float("inf")
        passed = min(soonest, alarm)
        self._now += passed
        ended = []
        for thread in busy:
            thread.left -= passed * pace
            if thread.left <= _NOTHING:
                ended.append(thread.finish())
        while self._alarms and self._alarms[0][0] <= self._now + _NOTHING:
            ended.append(heapq.heappop(self._alarms)[2])
        for call in ended:
            call()


class _Worker:
    """Claims, runs and settles from a queue that is never empty."""

    def __init__(self, world: _World, redis: _Thread, costs: Costs, deployment: Deployment) -> None:
        self.thread = _Thread()
        self._world = world
        self._redis = redis
        self._costs = costs
        self._wait = deployment.tool_ms * 1000
        self._share = (deployment.concurrency + 1) // 2
        self._free = deployment.concurrency
        self._ended = 0
        self._turns = 0

    def take_turns(self) -> None:
        """Settle what has ended, and claim for the free slots."""
        while self._turns < _TURNS and (self._ended or self._free):
            settled, claimed = min(self._ended, self._share), min(self._free, self._share)
            self._ended -= settled
            self._free -= claimed
            self._turns += 1
            # Half of what Redis does for a task is the claim, the other half the end.
            work = (settled + claimed) * self._costs.run / 2
            self._redis.add(work, lambda settled=settled, claimed=claimed: self._reply(settled, claimed))  # type: ignore[misc]

    def _reply(self, settled: int, claimed: int) -> None:
        self._turns -= 1
        self._world.settled += settled
        for _ in range(claimed):
            self.thread.add(self._costs.worker, lambda: self._world.later(self._wait, self._end))
        self.take_turns()

    def _end(self) -> None:
        self._ended += 1
        self._free += 1
        self.take_turns()
