"""Starts the programs under test and makes sure that none of them outlives the run.

Every program leads a process group of its own, and only these groups are ever signalled.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar

__all__ = ["Program", "await_value", "clean_up_on_signals", "free_port", "starting"]

T = TypeVar("T")

_OURS = ("TASKMILL_", "FASTMCP_", "BENCH_")
_leaders: set[int] = set()
_being_started: list[None] = []
"""One entry while a process is started."""
_postponed: list[int] = []
"""Signals that came meanwhile."""


class Program:
    """One process under test, started at once; its output goes to a file that is shown when it dies."""

    def __init__(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str], output: Path, talks: bool = False
    ) -> None:
        """`talks`: lines go to its standard input and come from its standard output; see `ask`."""
        self._output = output
        self._name = " ".join(Path(word).name for word in command[:3])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        # Compiling every module at every start would take longer than most measurements.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        with output.open("ab") as sink, starting():
            self._process = subprocess.Popen(
                command,
                env=inherited | dict(environment),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else sink,
                stderr=sink,
                cwd=output.parent,
                start_new_session=True,
            )
            _leaders.add(self._process.pid)

    def check(self) -> None:
        """Return while the program runs or has ended well.

        Raises:
            RuntimeError: it failed; the message carries the end of its output.
        """
        if self._process.poll():
            tail = self._output.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._name} ended with {self._process.returncode}:\n{tail}")

    def ask(self, line: str) -> str:
        """Write a line, and read one.

        Raises:
            RuntimeError: it ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            self._process.wait()
            self.check()
            raise RuntimeError(f"{self._name} ended without an answer")
        return answer.decode()

    def end_input(self, *, seconds: float) -> None:
        """Close its standard input, and wait for its end, but no longer than this."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def has_ended(self) -> bool:
        """True once it has ended well; raises like `check`."""
        self.check()
        return self._process.poll() is not None

    def cpu_seconds(self) -> float:
        """Processor time that its running processes used so far; 0 where the system does not tell (no /proc)."""
        seconds = 0.0
        for told in Path("/proc").glob("[0-9]*/stat"):
            try:
                group = int(told.read_text().rpartition(")")[2].split()[2])
                if group == self._process.pid:
                    # The clock that clock_getcpuclockid(3) names; the file tells ticks of ten milliseconds.
                    seconds += time.clock_gettime(~int(told.parent.name) << 3 | 2)
            except OSError:
                continue  # it has ended
        return seconds

    def memory(self) -> int:
        """Bytes of memory it has now; 0 where the system does not tell (no /proc)."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def pause(self) -> None:
        """Let the whole group stand still, as it is."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the whole group, the hard way: nothing of a finished measurement is worth a farewell."""
        _kill_group(self._process.pid)
        self._process.wait()


def await_value(look: Callable[[], T | None], what: str, *, seconds: float, every: float = 0.01) -> T:
    """The first value of `look` that is not None.

    Raises:
        RuntimeError: `seconds` have passed without one.
    """
    deadline = time.monotonic() + seconds
    while (value := look()) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)
    return value


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def clean_up_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP end the run in order, so that what was started is stopped."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """A signal that comes while a process is started ends the run behind this block, where the process is known."""
    _being_started.append(None)
    try:
        yield
    finally:
        _being_started.pop()
        if _postponed:
            sys.exit(128 + _postponed[0])


def _leave(number: int, _frame: FrameType | None) -> None:
    if _being_started:
        _postponed.append(number)
    else:
        sys.exit(128 + number)


def _kill_group(leader: int) -> None:
    _leaders.discard(leader)
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # everybody in it has ended


@atexit.register
def _kill_the_rest() -> None:
    for leader in list(_leaders):
        _kill_group(leader)
