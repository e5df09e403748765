"""The worker's side of the socket to a reaper (`reaper.py`): orders to it, and what it reports."""

import asyncio
import json
from typing import Any

__all__ = ["ReaperLink"]

Message = dict[str, Any]


class ReaperLink:
    """Orders and reports of one reaper. Used by one task at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._replies: asyncio.Queue[Message] = asyncio.Queue()
        self.pid: int | None = None
        """The tool process, or the command in front of it; None until it is started."""
        self.exit_code: int | None = None
        """How that ended, minus the signal; None while it runs, and where the reaper was killed."""
        self.exceeded: str | None = None
        """The limit that it exceeded, by its name in `Limits`."""
        self.is_lost = False
        """Whether the reaper reports no more."""
        self._reading = asyncio.create_task(self._read(reader), name="taskmill.reaper")

    def send(self, order: Message) -> None:
        """Send an order, if the reaper is there."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(order).encode() + b"\n")

    async def begin(self, limits: dict[str, float]) -> None:
        """Watch an attempt from now on, with these limits; what it starts belongs to it. Lost: it does nothing."""
        await self._ask({"begin": limits})

    async def processes_left(self) -> bool:
        """Whether something that the attempt has started still runs. The watch ends."""
        reply = await self._ask({"end": True})
        return reply.get("left") != 0

    async def wait_until_closed(self) -> None:
        """Return when everything that the reaper has reported is read."""
        await asyncio.wait([self._reading])
        self._writer.close()

    async def _ask(self, order: Message) -> Message:
        if self.is_lost:
            return {}
        self.send(order)
        return await self._replies.get()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._receive(json.loads(line))
        except (OSError, ValueError):
            pass  # the reaper was killed in the middle of a line
        finally:
            self.is_lost = True
            self._replies.put_nowait({})

    def _receive(self, message: Message) -> None:
        self.pid = message.get("started", self.pid)
        self.exit_code = message.get("ended", self.exit_code)
        self.exceeded = message.get("exceeded", self.exceeded)
        if "began" in message or "left" in message:
            self._replies.put_nowait(message)
