"""What one Redis holds: measures what a task costs, predicts rates from it, and holds them against measured ones.

`scripts/scale` on a quiet machine; `scripts/scale --predict` for a deployment that is not here.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.cluster import measure_cluster, print_cluster
from bench.contenders import ROOT, TASKMILL
from bench.machine import facts
from bench.private_redis import PrivateRedis
from bench.processes import clean_up_on_signals
from bench.simulation import Costs, Deployment, predict
from bench.stage import Stage

__all__ = ["main"]

_PROGRAM = replace(TASKMILL, program=ROOT / "bench" / "programs" / "scaling_program.py")
_SHARDED = "other"
_NAP_MS = 50.0
_MEASURED = (
    Deployment(1),
    Deployment(2),
    Deployment(1, tool_ms=_NAP_MS),
    Deployment(2, tool_ms=_NAP_MS),
    Deployment(1, shards=2),
)
T = TypeVar("T", Costs, "Load")


@dataclass(frozen=True)
class Load:
    """What one task is to one Redis."""

    create_commands: float
    run_commands: float
    poll_commands: float
    open_bytes: float
    """Memory of a queued task."""
    ended_bytes: float
    """Memory of a task that succeeded, with its history."""


@dataclass(frozen=True)
class Point:
    """One deployment, measured and predicted."""

    label: str
    measured: float
    predicted: float


def main(words: Sequence[str] | None = None) -> None:
    """Measure and compare, or predict."""
    args = _parser().parse_args(words)
    if args.predict:
        costs = Costs(args.worker_us, args.run_us, args.create_us, args.poll_us)
        wanted = Deployment(args.workers, args.concurrency, args.cores, args.shards, args.tool_ms)
        print(f"{predict(costs, wanted):,.0f} tasks a second")
        print(f"{costs.most() * args.shards:,.0f} at most, with their creation, whatever the workers")
        return
    clean_up_on_signals()
    if args.cluster:
        print_cluster(measure_cluster(_PROGRAM, args.tasks, args.rounds))
        return
    machine = facts()
    chosen = _MEASURED[: args.points]
    rounds = [(*_costs(args.tasks), [_rate(one, args.tasks) for one in chosen]) for _ in range(args.rounds)]
    costs = _median(Costs, [round_[0] for round_ in rounds])
    load = _median(Load, [round_[1] for round_ in rounds])
    cores = len(os.sched_getaffinity(0))
    points = [
        Point(_label(one), statistics.median(rates), predict(costs, replace(one, cores=cores)))
        for one, rates in zip(chosen, zip(*(round_[2] for round_ in rounds), strict=True), strict=True)
    ]
    _print(costs, load, points)
    if args.json:
        told = {
            "machine": machine,
            "costs_us": asdict(costs),
            "load": asdict(load),
            "points": list(map(asdict, points)),
        }
        args.json.write_text(json.dumps(told, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/scale", description="Measures the cost of a task, and predicts rates.")
    parser.add_argument("--tasks", type=int, default=20_000, help="how many a measurement takes")
    parser.add_argument("--rounds", type=int, default=3, help="how often; medians are reported")
    parser.add_argument("--points", type=int, default=len(_MEASURED), help="how many deployments to compare")
    parser.add_argument(
        "--cluster", action="store_true", help="measure a Redis cluster: queues on one primary, on three"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--predict", action="store_true", help="measure nothing; the options below say what to predict")
    for name, value in (("workers", 1), ("concurrency", 10), ("cores", 0), ("shards", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tool-ms", type=float, default=0.0, help="what a task waits without using the processor")
    for name in ("worker", "run", "create", "poll"):
        parser.add_argument(f"--{name}-us", type=float, default=0.0, help="a cost, as measured")
    return parser


def _costs(tasks: int) -> tuple[Costs, Load]:
    """Of one task, with one worker and nothing else to do."""
    with Stage(_PROGRAM) as stage:
        with _charging(stage, tasks) as looking:
            stage.drive("look", tasks, seconds=300)
        with _charging(stage, tasks) as creating:
            stage.drive("fill", "default", "nop", tasks, seconds=300)
        worker = stage.work(10)
        stage.await_note("started")
        left = stage.unfinished()
        cpu = worker.cpu_seconds()
        with _charging(stage, left) as running:
            _wait_until(stage.unfinished, 0)
            time.sleep(0.2)  # what a worker does after the end of a task belongs to it
        cpu = worker.cpu_seconds() - cpu
    costs = Costs(cpu * 1e6 / left, running["us"], creating["us"], looking["us"])
    ended = creating["bytes"] + running["bytes"] * left / tasks
    return costs, Load(creating["commands"], running["commands"], looking["commands"], creating["bytes"], ended)


@contextmanager
def _charging(stage: Stage, count: int) -> Iterator[dict[str, float]]:
    """Fills in what one of `count` things costs Redis; complete at the end."""
    told: dict[str, float] = {}
    before, cpu = stage.redis.usage(), stage.redis.program.cpu_seconds()
    yield told
    cpu = stage.redis.program.cpu_seconds() - cpu
    used = stage.redis.usage().since(before)
    told.update(us=cpu * 1e6 / count, commands=used.commands / count, bytes=used.memory / count)


def _median(kind: type[T], rounds: Sequence[T]) -> T:
    """Field by field."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # T is one of our dataclasses
    return kind(**{name: statistics.median(getattr(one, name) for one in rounds) for name in names})


def _label(wanted: Deployment) -> str:
    tool = f"tool that waits {wanted.tool_ms:g} ms" if wanted.tool_ms else "no-op"
    many = "a worker" if wanted.workers == 1 else f"{wanted.workers} workers"
    return f"{tool}, {many}" if wanted.shards == 1 else f"{tool}, {wanted.shards} shards with {many} each"


def _rate(wanted: Deployment, tasks: int) -> float:
    """Tasks a second, from when all workers have started until four fifths of them are settled."""
    tool, tasks = ("doze", tasks // 20 * wanted.workers) if wanted.tool_ms else ("nop", tasks)
    with Stage(_PROGRAM) as stage:
        queues = ["default", _SHARDED][: wanted.shards]
        with _other_redis(stage, queues) as others:
            for queue in queues:
                stage.drive("fill", queue, tool, tasks // len(queues), seconds=300)
            for queue in queues:
                stage.contender = _with(stage, TASKMILL_QUEUE=queue)
                for _ in range(wanted.workers):
                    stage.work(wanted.concurrency)

            def unfinished() -> int:
                return sum(redis.sizes(stage.contender.unfinished) for redis in (stage.redis, *others))

            stage.await_note("started", wanted.workers * len(queues))
            began, left = time.monotonic(), unfinished()
            now = _wait_until(unfinished, left // 5)
            return (left - now) / (time.monotonic() - began)


@contextmanager
def _other_redis(stage: Stage, queues: Sequence[str]) -> Iterator[list[PrivateRedis]]:
    """The Redis of the second queue, if there is one; programs of the stage are told of it."""
    if len(queues) == 1:
        yield []
        return
    directory = stage.directory / _SHARDED
    directory.mkdir()
    redis = PrivateRedis(directory)
    try:
        stage.contender = _with(stage, TASKMILL_SHARDS=f"{_SHARDED}={redis.url}")
        yield [redis]
    finally:
        redis.stop()


def _with(stage: Stage, **variables: str) -> Any:
    return replace(stage.contender, environment=stage.contender.environment | variables)


def _wait_until(unfinished: Any, goal: int) -> int:
    deadline = time.monotonic() + 300
    while (now := unfinished()) > goal:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{now} tasks are left after five minutes")
        time.sleep(0.02)
    return int(now)


def _print(costs: Costs, load: Load, points: Sequence[Point]) -> None:
    rows = (
        ("create a task", costs.create, load.create_commands),
        ("hand it out and settle it", costs.run, load.run_commands),
        ("one poll", costs.poll, load.poll_commands),
    )
    print("| of Redis | processor time | commands |\n| --- | ---: | ---: |")
    for label, micros, commands in rows:
        print(f"| {label} | {micros:.0f} us | {commands:.1f} |")
    print(f"\nA worker: {costs.worker:.0f} us a task. Memory: {load.open_bytes:,.0f} bytes a queued task, ", end="")
    print(f"{load.ended_bytes:,.0f} an ended one.")
    print(
        f"One Redis: {costs.most():,.0f} tasks a second at most; polled ten times each, {costs.most(polls=10):,.0f}.\n"
    )
    print("| deployment | measured | predicted | predicted / measured |\n| --- | ---: | ---: | ---: |")
    for point in points:
        ratio = point.predicted / point.measured
        print(f"| {point.label} | {point.measured:,.0f}/s | {point.predicted:,.0f}/s | {ratio:.2f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
