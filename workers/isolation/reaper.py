"""The parent of a tool process: watches its limits, and kills everything that the tool has started when it ends.

Executed by file (`process.py`) on the standard library alone, so that it starts quickly and nothing of the author's
runs in it. On Linux it is a subreaper: a process that leaves its parent and session becomes a child of this one and is
found. It has a socket to the worker, and ends all when that closes, however the worker died.

Messages are JSON, a line each. From the worker: `{"begin": limits}`, `{"end": true}`, `{"terminate": true}`,
`{"kill": true}`. To it: `{"started": pid}`, `{"began": true}`, `{"left": count}`, `{"exceeded": limit}`,
`{"ended": exit code or minus signal}`.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

_CHECK_EVERY = 0.05
"""Seconds between two looks at an attempt that has limits."""
_KILL_EVERY = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_WORKER_DIED = signal.SIGUSR1
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A service manager sends them to all processes at once; the worker decides when this one ends."""
_RESET = (*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, _WORKER_DIED)


class Reaper:
    """One tool process and everything that comes of it; `control` is the socket to the worker."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._received = b""
        self._main = 0
        self._own: set[int] = set()
        """Processes of the server itself, which it started before the attempt."""
        self._limits: dict[str, float] = {}
        self._cpu_before = 0.0
        self._stopping = False
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(_WORKER_DIED, self._stop)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def run(self, channel: int, command: Sequence[str]) -> None:
        """Start the command, serve the worker, and return when nothing of it is left."""
        os.set_inheritable(self._control, False)
        self._main = os.fork()
        if self._main == 0:
            _become(command, channel)
        os.close(channel)
        self._send({"started": self._main})
        while not self._stopping:
            ready, _, _ = select.select([self._control, self._wake], [], [], _CHECK_EVERY if self._limits else None)
            if self._wake in ready:
                self._reap()
            if self._control in ready:
                self._receive()
            if self._limits:
                self._check()
        self._kill_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _send(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._control, json.dumps(message).encode() + b"\n")
        except OSError:
            self._stopping = True

    def _receive(self) -> None:
        try:
            data = os.read(self._control, 65536)
        except OSError:
            data = b""
        if not data:
            self._stopping = True
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        if "begin" in message:
            self._own = set(_descendants(os.getpid()))
            self._cpu_before = self._cpu()
            self._limits = message["begin"]
            self._send({"began": True})
        elif "end" in message:
            self._limits = {}
            left = [pid for pid in _descendants(os.getpid()) if pid not in self._own and _lives(pid)]
            self._send({"left": len(left)})
        elif "terminate" in message:
            with contextlib.suppress(OSError):
                os.killpg(self._main, signal.SIGTERM)
        else:
            self._stopping = True

    def _reap(self) -> None:
        os.read(self._wake, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._main:
                    self._send({"ended": os.waitstatus_to_exitcode(status)})
                    self._stopping = True

    def _check(self) -> None:
        """Stop all if the attempt is over a limit."""
        exceeded = next(self._exceeded(), None)
        if exceeded is not None:
            self._send({"exceeded": exceeded})
            self._stopping = True

    def _exceeded(self) -> Iterator[str]:
        found = list(_descendants(os.getpid()))
        if (most := self._limits.get("processes")) is not None:
            started = [pid for pid in found if pid not in self._own]
            # One that has ended is counted until its parent knows: a look at each is only for who seems to have many.
            if len(started) > most and sum(map(_lives, started)) > most:
                yield "processes"
        if (most := self._limits.get("memory")) is not None and _memory(found, most) > most:
            yield "memory"
        if (most := self._limits.get("cpu")) is not None and self._cpu() - self._cpu_before > most:
            yield "cpu"

    def _cpu(self) -> float:
        """Seconds of processor time of all processes that came of the command, those that have ended too."""
        times = os.times()
        used = times.children_user + times.children_system
        for pid in _descendants(os.getpid()):
            fields = _stat(pid)
            used += sum(map(int, fields[11:15])) / _TICKS if fields else 0
        return used

    def _kill_all(self) -> None:
        """Kill until nothing is left. What is killed leaves its children to this process, and so none gets away."""
        own_group = os.getpgrp()
        while True:
            if sys.platform != "linux":  # where a group whose first process has ended is not found below
                with contextlib.suppress(OSError):
                    os.killpg(self._main, signal.SIGKILL)
            for pid in list(_descendants(os.getpid())):
                with contextlib.suppress(OSError):
                    # The group as well: a group that starts processes all the time dies in one step.
                    if (group := os.getpgid(pid)) != own_group:
                        os.killpg(group, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            try:
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    if ended[0] == self._main:
                        self._send({"ended": os.waitstatus_to_exitcode(ended[1])})
            except ChildProcessError:
                return
            select.select([], [], [], _KILL_EVERY)


def _become(command: Sequence[str], channel: int) -> NoReturn:
    """Execute the command in this process, which was forked for it; a failure goes to the worker over the channel."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], [*command])
    except OSError as exc:
        body = json.dumps({"failure": f"{command[0]}: {exc.strerror}"}).encode()
        os.write(channel, len(body).to_bytes(4, "big") + body)
    finally:
        os._exit(127)


def _descendants(pid: int) -> Iterator[int]:
    """Children of a process, their children, and so on; some of them may have ended."""
    if sys.platform != "linux":
        yield from _descendants_by_ps(pid)
        return
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                try:
                    text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                except FileNotFoundError:
                    if os.path.exists(f"/proc/{pid}/task/{thread}"):
                        return _children_by_scan(pid)  # a kernel without CONFIG_PROC_CHILDREN
                    continue
                found += map(int, text.split())
    return found


def _children_by_scan(parent: int) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[1]) == parent]


def _descendants_by_ps(pid: int) -> list[int]:
    rows = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, check=False).stdout.split()
    parents = {int(child): int(parent) for child, parent in zip(rows[::2], rows[1::2], strict=False)}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third one on; empty when the process is gone."""
    try:
        # Behind the name in parentheses, which may have spaces.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _lives(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _memory(pids: Sequence[int], most: float) -> int:
    """Bytes that these processes have in memory. Pages that they share are counted once only where it matters."""
    resident = {pid: _resident(pid) for pid in pids}
    total = sum(resident.values())
    if total <= most or len(pids) == 1:
        return total
    return sum(_proportional(pid, size) for pid, size in resident.items())


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int, resident: int) -> int:
    """Bytes of a process, a page that n processes share as an nth of it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return resident


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _close_all_but(*kept: int) -> None:
    """Close what the worker was started with, such as a socket of its service manager: uvloop hands it on."""
    first = 3
    for descriptor in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, descriptor)
        first = descriptor + 1


def main() -> None:
    """Arguments: the descriptor of the control socket, the one of the tool's channel, the command."""
    control, channel, *command = sys.argv[1:]
    _close_all_but(int(control), int(channel))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, _WORKER_DIED)
    Reaper(int(control)).run(int(channel), command)


if __name__ == "__main__":
    main()
