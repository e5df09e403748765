"""Processes that are forked from a command which has imported all that they need, and that wait for what to run.

The imports of a server and of a worker are two thirds of the processor time of a quick call, or of a start of `run`,
and the same for both. A fork is taken before the command has a thread, an event loop or a connection, and before any
code of the author runs: the process then is as separate as one that was executed. Where this cannot be, there are none,
and `child.py` executes programs.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from taskmill.cli.processes.secret_words import split_secrets

__all__ = ["PreparedProcess", "ending_at_interrupt", "prepare"]

_MAX_WORDS = 1024 * 1024
_INTERRUPTED = 130


class PreparedProcess:
    """One process, with the interface of `asyncio.subprocess.Process` that `Child` uses."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self.link = link
        """This side of the socket pair. The process receives its words here, and then reports here."""
        self.returncode: int | None = None
        """Exit code, negative = the signal that ended it, None = it runs."""
        self._ended: asyncio.Event | None = None

    def begin(self, words: Sequence[str], output: int) -> bool:
        """Let it run the command `words`, with `output` as its standard output and error. False: it has died.

        Must be called in the event loop.
        """
        try:
            socket.send_fds(self.link, [json.dumps(words).encode() + b"\n"], [output])
        except OSError:
            return False
        ended = self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:
            _, status = os.waitpid(self.pid, 0)
            with contextlib.suppress(RuntimeError):  # the loop is closed: no one waits any more
                loop.call_soon_threadsafe(self._set_ended, ended, os.waitstatus_to_exitcode(status))

        # A daemon: a process may outlive the command, which must not wait for it.
        threading.Thread(target=wait, name=f"taskmill-wait-{self.pid}", daemon=True).start()
        return True

    async def wait(self) -> int:
        """Wait for its end; the exit code."""
        assert self._ended is not None
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def _set_ended(self, ended: asyncio.Event, code: int) -> None:
        self.returncode = code
        ended.set()


def prepare(count: int, run: Callable[[list[str]], object]) -> list[PreparedProcess]:
    """Fork `count` processes that wait for their words. Returns in this process only; an empty list: not here.

    `run` runs a command by its words; in the new process everything on the stack of the caller then ends in order.

    Raises:
        SystemExit: in a new process, when `run` returns.
    """
    if not _may_fork():
        return []
    sys.stdout.flush()
    sys.stderr.flush()
    made: list[PreparedProcess] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            # Without this a sibling would keep the link of the others open, and they would outlive the command.
            for link in (ours, *(earlier.link for earlier in made)):
                link.close()
            _run_when_asked(theirs, run)
        theirs.close()
        made.append(PreparedProcess(pid, ours))
    return made


@contextmanager
def ending_at_interrupt() -> Iterator[None]:
    """In the block, Ctrl-C ends the process at once, without a traceback: nothing has been started yet."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _may_fork() -> bool:
    """Whether a fork is safe: on Linux, with one thread. Libraries of macOS do not work in a forked process."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _run_when_asked(link: socket.socket, run: Callable[[list[str]], object]) -> None:
    """Be what a newly executed child would be, and run the words that come; ends this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Ctrl-C goes to the command only, which stops its children in order.
    os.setsid()
    words, output = _receive(link)
    null = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((null, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    _close_inherited(link.fileno())
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=os.isatty(1))
    # Detached: the parent link of the command makes a socket of the number.
    words += ["--parent", str(link.detach())]
    sys.argv[1:] = words
    _set_command_line(["-m", "taskmill.cli.main", *split_secrets(words)[0]])
    run(words)
    raise SystemExit(0)


def _receive(link: socket.socket) -> tuple[list[str], int]:
    """The words, and the descriptor for the output. Ends this process if the command has died."""
    data, outputs, _, _ = socket.recv_fds(link, _MAX_WORDS, 1)
    while data and not data.endswith(b"\n"):
        more = link.recv(_MAX_WORDS)
        data = data + more if more else b""
    if not data or not outputs:
        os._exit(0)
    words: list[str] = json.loads(data)
    return words, outputs[0]


def _close_inherited(kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the one of the listing itself
                os.close(int(name))


def _set_command_line(words: Sequence[str]) -> None:
    """Let `ps` show these words, as many as fit into the place of the old ones. Of no use but for people."""
    with contextlib.suppress(OSError, ValueError):
        # Behind the name in parentheses, which may have spaces: proc_pid_stat(5), fields 48 and 49.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        text = "\0".join([sys.executable, *words]).encode(errors="surrogateescape")
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(text[: end - start - 1].ljust(end - start, b"\0"))
