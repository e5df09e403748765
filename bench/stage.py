"""The private world of one measurement: a directory, a Redis, the contender's processes, and the journal they write."""

import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.contenders import FOLLOWERS, Contender
from bench.mcp_client import Endpoint, run_client
from bench.private_redis import PrivateRedis
from bench.processes import Program, await_value, free_port

__all__ = ["WARM", "Stage"]

WARM = 5
"""Tasks of a warm-up."""

_START = 60.0
"""Seconds a program gets to start on a busy machine."""


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    """A place for compiled modules that all programs of the run share; it goes with this process."""
    return tempfile.TemporaryDirectory(prefix="taskmill-bench-bytecode-")


class Stage:
    """A context manager: what was started on it is stopped, and the directory removed, at its end."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.directory = Path(tempfile.mkdtemp(prefix="taskmill-bench-"))
        self.redis: PrivateRedis
        self.programs: list[Program] = []
        self._journal = self.directory / "journal"

    def __enter__(self) -> Self:
        try:
            self.redis = PrivateRedis(self.directory)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in reversed(self.programs):
            program.stop()
        self.redis.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def serve(self, *options: str, concurrency: int = 0) -> Endpoint:
        """A server that answers, and `concurrency` slots of a worker: in a process of its own unless the server works.

        Without slots tasks stay queued. `options`: for the contender's program.
        """
        port = free_port()
        server = self._start("serve", port, *options, slots=concurrency)
        endpoint = Endpoint(port)

        def answers() -> bool | None:
            server.check()
            return run_client(endpoint.is_open) or None

        await_value(answers, f"the server of {self.contender.label}", seconds=_START, every=0.05)
        if concurrency and not self.contender.server_works:
            self.work(concurrency)
        return endpoint

    def work(self, concurrency: int) -> Program:
        """Start a worker process."""
        return self._start("work", slots=concurrency)

    def end(self, program: Program) -> None:
        """SIGKILL a program."""
        self.programs.remove(program)
        program.stop()

    def send(self, tool: str, count: int, gap: float = 0.0) -> None:
        """Have `count` tasks enqueued by a process of their own, `gap` seconds apart, and wait for its end."""
        self.drive("send", tool, count, gap, seconds=_START + count * (gap + 0.02))

    def fill(self, tool: str, count: int) -> None:
        """Have `count` tasks enqueued while nothing works on them.

        Raises:
            RuntimeError: they are not counted as unfinished, so their ends would not be seen.
        """
        before = self.unfinished()
        self.send(tool, count)
        counted = self.unfinished() - before
        if counted != count:
            raise RuntimeError(
                f"{self.contender.label}: {counted} of {count} queued tasks are counted as unfinished; "
                f"see whether {self.contender.unfinished} are still its keys"
            )

    def warm_up(self) -> None:
        """Have some tasks run, so that a worker is up and has loaded what it needs."""
        self.send("stamp", WARM)
        self.await_note("stamped", WARM)

    def drive(self, *words: Any, seconds: float) -> None:
        """Have the contender's program do something to its end."""
        driver = self._start(*words)
        await_value(lambda: driver.has_ended() or None, f"{words[0]} to end", seconds=seconds)

    def follow(self, port: int, tasks: Sequence[str], count: int, seconds: float) -> None:
        """Start a process that reads `count` event streams of these tasks for so long."""
        self._start(port, ",".join(tasks), count, seconds, program=FOLLOWERS)

    def open_gate(self) -> None:
        """Let the calls end that the programs hold."""
        Path(f"{self._journal}.gate").touch()

    def notes(self, kind: str) -> list[list[str]]:
        """What was noted in the journal so far under `kind`, the words of each line after it."""
        try:
            lines = self._journal.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split()[1:] for line in lines if line.startswith(f"{kind} ")]

    def await_note(self, kind: str, count: int = 1, *, seconds: float = _START) -> list[list[str]]:
        """The notes of one kind once there are `count` of them."""

        def enough() -> list[list[str]] | None:
            for program in self.programs:
                program.check()
            found = self.notes(kind)
            return found if len(found) >= count else None

        return await_value(enough, f"{count} notes {kind!r}", seconds=seconds)

    def unfinished(self) -> int:
        """Tasks that have not ended."""
        return self.redis.sizes(self.contender.unfinished)

    def cpu_seconds(self) -> float:
        """Processor time of the contender's running processes, Redis not among them."""
        return sum(program.cpu_seconds() for program in self.programs)

    def _start(self, *words: Any, slots: int = 0, program: Path | None = None) -> Program:
        contender, script = self.contender, program or self.contender.program
        started = Program(
            [contender.python, script, *map(str, words)],
            environment={
                contender.redis_variable: contender.address or self.redis.url + contender.redis_options,
                "BENCH_JOURNAL": str(self._journal),
                "PYTHONPYCACHEPREFIX": _bytecode().name,
                contender.slots_variable: str(slots),
                **contender.environment,
            },
            output=self.directory / f"{words[0]}.log",
        )
        self.programs.append(started)
        return started
