"""What a queue on each primary of a Redis cluster brings, against all on one: `scripts/scale --cluster`.

A machine rarely has a core for every process. So beside the rate stands what each primary's processor had to do: with a
core for each, the busiest of them bounds the rate.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.contenders import Contender
from bench.private_redis import PrivateRedis
from bench.processes import await_value, free_port
from bench.stage import Stage
from taskmill.store.formats.cluster_address import SLOTS, slot_of, tag_of
from taskmill.store.formats.keys import Keys

__all__ = ["Spread", "measure_cluster", "print_cluster"]

_PRIMARIES = 3
_QUEUES = ("default", "second", "third")


@dataclass(frozen=True)
class Spread:
    """Tasks created, and then run, on some of the primaries."""

    primaries: int
    """With a queue, and a worker, each."""
    rate: float
    """Tasks a second that were run, as measured."""
    cpu_us: float
    """Processor time of all primaries a task: its creation, its run, and what nodes tell each other."""
    bound: float
    """Tasks a second, created and run, that the busiest primary permits with a core of its own."""


def measure_cluster(contender: Contender, tasks: int, rounds: int) -> list[Spread]:
    """Medians of a queue on one primary, and of three queues on three."""
    spreads = []
    for primaries in (1, _PRIMARIES):
        found = [_measured(contender, primaries, tasks) for _ in range(rounds)]
        rate, cpu, bound = (
            statistics.median(getattr(one, name) for one in found) for name in ("rate", "cpu_us", "bound")
        )
        spreads.append(Spread(primaries, rate, cpu, bound))
    return spreads


def print_cluster(spreads: Sequence[Spread]) -> None:
    """As a table."""
    print("| cluster of three primaries | measured | Redis's processor a task | with a core for each primary |")
    print("| --- | ---: | ---: | ---: |")
    for one in spreads:
        label = "a queue on one primary" if one.primaries == 1 else f"a queue on each of {one.primaries}"
        print(f"| {label} | {one.rate:,.0f}/s | {one.cpu_us:.0f} us | {one.bound:,.0f}/s at most |")
    print(
        f"\n{spreads[-1].bound / spreads[0].bound:.2f} times as many tasks, created and run, with {_PRIMARIES} cores."
    )


def _measured(contender: Contender, primaries: int, tasks: int) -> Spread:
    queues = _QUEUES[:primaries]
    with Stage(contender) as stage, _cluster(stage.directory) as nodes:
        address = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        urls = [f"{address}?part={number}of{primaries}" for number in range(1, primaries + 1)]
        shards = ",".join(f"{queue}={url}" for queue, url in zip(queues[1:], urls[1:], strict=True))
        where = {"TASKMILL_REDIS_URL": urls[0], **({"TASKMILL_SHARDS": shards} if shards else {})}
        stage.contender = replace(contender, redis_variable="BENCH_REDIS", environment=contender.environment | where)
        lives = [(_node_of(nodes, part), Keys(in_cluster=True, part=part).live) for part in _parts(primaries)]

        def unfinished() -> int:
            return sum(node.sizes((("ZCARD", key),)) for node, key in lives)

        cpu = [node.program.cpu_seconds() for node in nodes]
        for queue in queues:
            stage.drive("fill", queue, "nop", tasks // primaries, seconds=300)
        for queue in queues:
            stage.contender = replace(
                stage.contender, environment=stage.contender.environment | {"TASKMILL_QUEUE": queue}
            )
            stage.work(10)
        stage.await_note("started", primaries)
        began, left = time.monotonic(), unfinished()
        await_value(lambda: unfinished() <= left // 5 or None, "four fifths of the tasks", seconds=300, every=0.02)
        rate = (left - unfinished()) / (time.monotonic() - began)
        await_value(lambda: unfinished() == 0 or None, "all tasks", seconds=300, every=0.05)
        used = [node.program.cpu_seconds() - before for node, before in zip(nodes, cpu, strict=True)]
    return Spread(primaries, rate, sum(used) * 1e6 / tasks, tasks / max(used))


def _parts(total: int) -> Iterator[tuple[int, int]]:
    return ((number, total) for number in range(1, total + 1))


def _node_of(nodes: Sequence["_Node"], part: tuple[int, int]) -> "_Node":
    return nodes[slot_of(tag_of("taskmill", part)) * _PRIMARIES // SLOTS]


class _Node(PrivateRedis):
    """A primary."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.port = _free_port()
        super().__init__(directory, "--port", str(self.port), "--cluster-enabled", "yes")


@contextmanager
def _cluster(directory: Path) -> Iterator[list[_Node]]:
    """Three primaries, with a third of the slots each."""
    with ExitStack() as stack:
        nodes = []
        for number in range(_PRIMARIES):
            node = _Node(directory / f"node-{number}")
            stack.callback(node.stop)
            slots = range(-(-number * SLOTS // _PRIMARIES), -(-(number + 1) * SLOTS // _PRIMARIES))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.command("CLUSTER", "ADDSLOTS", *slots)
            nodes.append(node)
        for node in nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)

        def is_whole() -> bool | None:
            return (
                all(len(node.command("CLUSTER", "SLOTS")) == _PRIMARIES for node in nodes)
                and all("cluster_state:ok" in str(node.command("CLUSTER", "INFO")) for node in nodes)
            ) or None

        await_value(is_whole, "the cluster", seconds=30, every=0.05)
        yield nodes


def _free_port() -> int:
    """One that leaves room for the port on which nodes talk to each other, 10,000 above it."""
    while (port := free_port()) > 55_000:
        pass
    return port
