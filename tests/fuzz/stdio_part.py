"""The part `stdio`: garbage and hostile messages to `taskmill stdio`, which has to answer the good ones between."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from random import Random
from types import TracebackType
from typing import Any, Self

from tests.fuzz.choices import Choices
from tests.fuzz.hostile import hostile
from tests.fuzz.mutation import mutated_bytes
from tests.fuzz.oracle import ARGUMENT, revealed_internals
from tests.fuzz.processes import ServerProcesses
from tests.fuzz.report import Report
from tests.fuzz.server import CRASH, RESULT
from tests.fuzz.target import INITIALIZE, Target
from tests.fuzz.valid_requests import Json, envelope

__all__ = ["Host", "attack_stdio"]

_FOLDER = Path(__file__).parent
_TIMEOUT = 30.0
_HELLO = {"name": "hello", "arguments": {"name": "you"}}
_OPENINGS: dict[str, list[Json]] = {
    "2025-11-25": [
        {"id": "open", "method": "initialize", "params": INITIALIZE},
        {"method": "notifications/initialized"},
        {"id": "good", "method": "tools/call", "params": _HELLO},
    ],
    "2026-07-28": [{"id": "good", "method": "tools/call", "params": envelope(_HELLO)}],
}
"""What a good host says, by revision; the last is answered with a greeting."""


class Host:
    """A host of `taskmill stdio`: writes lines, keeps what it is told, and ends it at the end."""

    def __init__(self, processes: ServerProcesses) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
        environment |= {"PYTHONPATH": str(_FOLDER.parents[1]), "TASKMILL_HOME": str(processes.folder / "home")}
        self.log = processes.folder / "stdio.log"
        taskmill, file = Path(sys.executable).with_name("taskmill"), _FOLDER / "guarded_server.py"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [taskmill, "stdio", file, "--redis-url", processes.redis.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self.told: Queue[bytes] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, line: bytes) -> None:
        """Write one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.replace(b"\n", b" ") + b"\n")
        self.process.stdin.flush()

    def until(self, request_id: str) -> Iterator[bytes]:
        """Everything it is told up to the answer to a request.

        Raises:
            TimeoutError: there is none.
        """
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            try:
                line = self.told.get(timeout=0.1)
            except Empty:
                continue
            yield line
            if f'"id":"{request_id}"'.encode() in line.replace(b'": "', b'":"'):
                return
        raise TimeoutError(f"no answer to {request_id!r} within {_TIMEOUT:g} s")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.put(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(_TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()


def attack_stdio(examples: int, *, is_random: bool = False) -> Report:
    """So many lines, half of them to a host of either revision; each hears a greeting after every hundredth."""
    report = Report("stdio")
    begun = time.perf_counter()
    random = Random(None if is_random else 0)
    with ServerProcesses() as processes:
        for revision, opening in _OPENINGS.items():
            lines = [_line(random.randbytes(96)) for _ in range(examples // 2)]
            with Host(processes) as host:
                faults = _converse(host, opening, lines)
            faults += _left_behind(host)
            report.examples += len(lines)
            if faults:
                report.found([f"{revision}: {fault}" for fault in faults], "\n".join(map(repr, lines)))
    report.seconds = time.perf_counter() - begun
    return report


def _converse(host: Host, opening: list[Json], lines: list[bytes]) -> list[str]:
    faults: list[str] = []
    try:
        for message in opening:
            host.say(json.dumps({"jsonrpc": "2.0", **message}).encode())
        faults += _of_answers(host.until("good"), lines, greets=True)
        for at in range(0, len(lines), 100):
            for line in lines[at : at + 100]:
                host.say(line)
            host.say(json.dumps({"jsonrpc": "2.0", **opening[-1], "id": f"good {at}"}).encode())
            faults += _of_answers(host.until(f"good {at}"), lines, greets=True)
    except (TimeoutError, BrokenPipeError) as exc:
        faults.append(f"hang: {exc}; exit code {host.process.poll()}")
    return faults


def _of_answers(told: Iterator[bytes], lines: list[bytes], *, greets: bool) -> list[str]:
    faults, last = [], b""
    said = b"\n".join(lines).decode("latin-1")
    for last in told:
        try:
            message: Any = json.loads(last.decode(), parse_constant=float)
        except ValueError:
            faults.append(f"no JSON on standard output: {last[:200]!r}")
            continue
        if message.get("jsonrpc") != "2.0":
            faults.append(f"no JSON-RPC on standard output: {last[:200]!r}")
        faults += [f"reveals an internal: {word!r}" for word in revealed_internals(last.decode(), said)]
    return faults + ([] if not greets or b"you!" in last else [f"no greeting: {last[:300]!r}"])


def _left_behind(host: Host) -> list[str]:
    """How it ended, and what its log tells."""
    faults = [] if host.process.returncode == 0 else [f"it ended with {host.process.returncode}"]
    log = [line for line in host.log.read_text(errors="replace").splitlines() if CRASH not in line]
    faults += [f"logged {one}: {line[:300]}" for line in log for one in (ARGUMENT, RESULT) if one in line]
    return faults + [f"logged a crash: {line[-500:]}" for line in log if "Traceback (most recent" in line]


def _line(data: bytes) -> bytes:
    """A hostile message, mutated once more; or garbage."""
    choices = Choices(data)
    body = hostile(choices, Target(None, {}))[1].body  # type: ignore[arg-type]
    return mutated_bytes([body], choices) if choices.chance(30) else body
