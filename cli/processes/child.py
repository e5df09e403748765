"""Child processes of a command: `taskmill serve` and `taskmill worker`, started, heard out, and ended.

A child has a line to its command (`parent.py` is the other end). When the command dies, however it dies, the line
breaks and the child ends itself. Whether a dead child is started again is `crew.py`'s business.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from taskmill.cli.errors import Failure, Reported

__all__ = ["Child"]

_LONGEST_MESSAGE = 16 * 1024 * 1024


class Child:
    """One child process: `role` is the command it runs, `words` its arguments."""

    def __init__(self, role: str, words: Sequence[str], *, output: IO[Any] | int | None = None) -> None:
        """`output`: where its standard output and error go; None = to our standard error."""
        self.role = role
        self._words = words
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it does its work; what it says about itself.

        Raises:
            Reported: it ended before that; the failure is what it said.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: nothing in the current directory may pass for a library. A session of its own: Ctrl-C is for the
            # command, which ends its children in order.
            program = [sys.executable, "-P", "-m", "taskmill.cli.main", self.role, *self._words]
            self._process = await asyncio.create_subprocess_exec(
                *program,
                "--parent",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr if self._output is None else self._output,
                stderr=sys.stderr if self._output is None else self._output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_LONGEST_MESSAGE)
        said = await self._hear()
        if "ready" in said:
            facts: dict[str, Any] = said["ready"]
            return facts
        code = await self.wait()
        told = said.get("failure")
        raise Reported(Failure(**told) if told else Failure(f"The {self.role} process {_ending(code)}.", max(code, 1)))

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return self._process.pid if self._process else None

    async def wait(self) -> int:
        """The exit code, once it has ended; negative: the signal that ended it."""
        assert self._process is not None
        return await self._process.wait()

    async def last_words(self) -> str:
        """Why it ended, as far as it said; for a child that has ended."""
        assert self._process is not None
        said: dict[str, Any] = {}
        # A process that a tool forked may have kept the line open.
        with contextlib.suppress(TimeoutError):
            said = await asyncio.wait_for(self._hear(), timeout=1.0)
        told = said.get("failure")
        return str(told["message"]) if told else _ending(self._process.returncode or 0)

    def ask_to_end(self) -> None:
        """Ask it to finish and go; asked again it hurries."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def end(self, patience: float) -> None:
        """Ask it to end, and make it end when it has not after `patience` seconds."""
        self.ask_to_end()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), patience)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        self.forget()

    def let_go(self, log: Path) -> bool:
        """Leave it to itself: it stays when we end, and writes to the file `log`. False: it has not been started."""
        if self._writer is None:
            return False
        self._writer.write(json.dumps({"log": str(log)}).encode() + b"\n")
        return True

    def forget(self) -> None:
        """Close the line."""
        if self._writer is not None:
            self._writer.close()

    async def _hear(self) -> dict[str, Any]:
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            line = await self._reader.readline()
            if line.endswith(b"\n"):
                said: dict[str, Any] = json.loads(line)
                return said
        return {}


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
