"""What an isolated tool's context reaches: every question, step, chunk and file goes over the line to the worker."""

import asyncio
import base64
import itertools
import json
import queue
import socket
import threading
from collections.abc import AsyncIterable, Callable
from typing import Any

from taskmill.engine.artifact import PIECE, Artifact
from taskmill.engine.record import Progress
from taskmill.engine.steps import as_json, not_inside, run_step
from taskmill.workers.isolation.messages import Message, encoded, exception_from_json

__all__ = ["RemoteJournal", "RemoteOutput", "WorkerChannel"]

"""Bytes of a file in one message."""


class WorkerChannel:
    """The line to the worker. Speaking never waits for it, and works from any thread."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._words: queue.SimpleQueue[Message | Callable[[], object] | None] = queue.SimpleQueue()
        self._said: Progress | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._steps: dict[int, asyncio.Future[None]] = {}
        self.tool: asyncio.Task[Any] | None = None
        """The tool's own thread of work; calls from elsewhere are beside it."""
        threading.Thread(target=self._write, name="taskmill.cell", daemon=True).start()

    def say(self, message: Message) -> None:
        """Send a message, in order."""
        self._words.put(message)

    def progress(self, progress: Progress) -> None:
        """Send the latest progress; what is overtaken before it could be sent is not."""
        with self._lock:
            waiting, self._said = self._said is not None, progress
        if not waiting:
            self._words.put(None)

    async def call(self, method: str, given: Any, *, state: Any = None, at: Callable[[int], None] | None = None) -> Any:
        """Have the worker do something; its answer.

        Raises:
            Exception: what it raised there.
        """
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        beside = asyncio.current_task() is not self.tool
        if at is not None:
            at(number)
        self.say({"call": number, "method": method, "given": given, "state": state, "beside": beside})
        message = await reply
        if "error" in message:
            raise exception_from_json(message["error"])
        return message.get("value")

    async def has_sent(self) -> None:
        """Return when what was said is on its way: a file must not pile up here."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()
        self._words.put(lambda: loop.call_soon_threadsafe(sent.set))
        await sent.wait()

    def expect_step(self, number: int) -> "asyncio.Future[None]":
        """Resolved when the worker wants the step of this call performed: no earlier attempt did it."""
        wanted = self._steps[number] = asyncio.get_running_loop().create_future()
        return wanted

    def hear(self, message: Message) -> None:
        """An answer of the worker's. Event loop only."""
        waiting = self._steps.pop(message["perform"], None) if "perform" in message else None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        answered = self._replies.pop(message["reply"], None) if "reply" in message else None
        if answered is not None and not answered.done():
            answered.set_result(message)

    def _write(self) -> None:
        while True:
            message = self._words.get()
            if callable(message):
                message()
                continue
            if message is None:
                with self._lock:
                    said, self._said = self._said, None
                if said is None:
                    continue
                message = {"progress": [said.done, said.total, said.message]}
            try:
                self._line.sendall(encoded(message))
            except OSError:
                return  # the worker is gone, and the reading thread ends this process


class RemoteJournal:
    """Steps and state, kept by the worker."""

    def __init__(self, line: WorkerChannel, state: dict[str, Any]) -> None:
        self._line = line
        self.state = state

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The recorded result of this step; or run it here, and have its result recorded."""
        not_inside(f"Step {name!r}")
        wanted: asyncio.Future[None] | None = None
        number = 0

        def note(at: int) -> None:
            nonlocal wanted, number
            number, wanted = at, self._line.expect_step(at)

        given = [name, _readable(list(args)), _readable(kwargs)]
        asking = asyncio.ensure_future(self._line.call("step", given, state=self.state, at=note))
        await asyncio.sleep(0)  # lets the call be made, which numbers it
        assert wanted is not None
        await asyncio.wait({asking, wanted}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            try:
                value = as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")
            except BaseException:
                self._line.say({"performed": number})
                raise
            self._line.say({"performed": number, "value": value, "state": self.state})
        return await asking

    async def save(self) -> None:
        """Have the state saved."""
        await self._line.call("save", None, state=as_json(self.state, what="The task's state"))


class RemoteOutput:
    """Output and artifacts, kept by the worker."""

    def __init__(self, line: WorkerChannel, inline_limit: int) -> None:
        self._line = line
        self.inline_limit = inline_limit

    async def emit(self, chunk: Any) -> None:
        """Add a chunk."""
        await self._line.call("emit", chunk)

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Keep a file."""
        numbers: list[int] = []
        asking = asyncio.ensure_future(
            self._line.call("attach", {"name": name, "mime_type": mime_type}, at=numbers.append)
        )
        await asyncio.sleep(0)
        async for chunk in content:
            for at in range(0, len(chunk), PIECE):
                if asking.done():
                    break  # it was refused, and says why below
                piece = base64.b64encode(chunk[at : at + PIECE]).decode()
                self._line.say({"file": numbers[0], "data": piece})
                await self._line.has_sent()
        self._line.say({"file": numbers[0], "data": None})
        return Artifact(**await asking)


def _readable(value: Any) -> Any:
    """`value` as JSON; what is not JSON is its type's name, as the journal counts it."""
    return json.loads(json.dumps(value, default=lambda one: type(one).__qualname__))
