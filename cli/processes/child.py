"""Child processes of a command: starts and stops `taskmill serve` and `taskmill worker`, and reads their reports.

A child has a socket to its command (`parent.py` has the other end). When the command dies, however it dies, the socket
closes and the child ends itself. Whether a dead child is started again is decided in `supervisor.py`.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Any

from taskmill.cli.errors import CommandFailed, Failure
from taskmill.cli.processes.prepared import PreparedProcess
from taskmill.cli.processes.secret_words import split_secrets

__all__ = ["Child"]

_MAX_MESSAGE = 16 * 1024 * 1024


class Child:
    """One child process: `role` is the command that it runs, `arguments` are that command's words."""

    def __init__(
        self,
        role: str,
        arguments: Sequence[str],
        *,
        output: IO[Any] | int | None = None,
        prepared: PreparedProcess | None = None,
    ) -> None:
        """`output`: where its standard output and error go; None = to this process's standard error.

        `prepared`: the process that becomes it; None = a program is executed.
        """
        self.role = role
        self._arguments = arguments
        self._output = sys.stderr if output is None else output
        self._prepared = prepared
        self._process: asyncio.subprocess.Process | PreparedProcess | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, on_loaded: Callable[[], Awaitable[None]] | None = None) -> dict[str, Any]:
        """Start it and wait until it is ready; the facts that it reports then.

        `on_loaded`: awaited when a server that takes over a port is loaded and waits for the port.

        Raises:
            CommandFailed: it ended before it was ready; the failure is its report.
        """
        ours = self._begin_prepared() or await self._execute()
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_MAX_MESSAGE)
        message = await self._read_message()
        if "loaded" in message:
            if on_loaded is not None:
                await on_loaded()
            message = await self._read_message()
        if "ready" in message:
            facts: dict[str, Any] = message["ready"]
            return facts
        code = await self.wait()
        failure = message.get("failure")
        raise CommandFailed(
            Failure(**failure) if failure else Failure(f"The {self.role} process {_exit_text(code)}.", max(code, 1))
        )

    def _begin_prepared(self) -> socket.socket | None:
        """Let the prepared process become this child; the socket to it, None = there is none that lives."""
        prepared, self._prepared = self._prepared, None
        output = self._output if isinstance(self._output, int) else self._output.fileno()
        if prepared is None or not prepared.begin([self.role, *self._arguments], output):
            return None
        self._process = prepared
        return prepared.link

    async def _execute(self) -> socket.socket:
        """Execute the program of this child; the socket to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: no file in the current directory may hide a library. A session of its own: Ctrl-C goes to the
            # command only, which stops its children in order.
            words, secrets = split_secrets(self._arguments)
            program = [sys.executable, "-P", "-m", "taskmill.cli.main", self.role, *words]
            self._process = await asyncio.create_subprocess_exec(
                *program,
                "--parent",
                str(theirs.fileno()),
                env={**os.environ, **secrets},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return ours

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return self._process.pid if self._process else None

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative = the signal that ended it."""
        assert self._process is not None
        return await self._process.wait()

    async def exit_reason(self) -> str:
        """Why it ended: its own report, else its exit code. Only for a child that has ended."""
        assert self._process is not None
        message: dict[str, Any] = {"draining": 0}
        # A process that a tool forked may keep the socket open.
        with contextlib.suppress(TimeoutError):
            while "draining" in message:
                message = await asyncio.wait_for(self._read_message(), timeout=1.0)
        failure = message.get("failure")
        return str(failure["message"]) if failure else _exit_text(self._process.returncode or 0)

    async def active_tasks(self) -> int:
        """How many tasks it still runs, by its report, while it is stopping; 0 if it has sent none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                return int((await self._read_message()).get("draining", 0))
        return 0

    def terminate(self) -> None:
        """Send SIGTERM: it finishes its active tasks. A second one makes it release them."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def stop(self, stop_timeout: float) -> None:
        """Send SIGTERM, and kill it if it has not ended after `stop_timeout` seconds."""
        self.terminate()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), stop_timeout)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        self.close()

    def detach(self, log: Path) -> bool:
        """Let it outlive this process; it then writes to the file `log`. False if it does not run."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(json.dumps({"log": str(log)}).encode() + b"\n")
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._writer is not None:
            self._writer.close()

    async def _read_message(self) -> dict[str, Any]:
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            line = await self._reader.readline()
            if line.endswith(b"\n"):
                message: dict[str, Any] = json.loads(line)
                return message
        return {}


def _exit_text(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
