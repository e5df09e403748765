"""What an isolated tool's context calls: every question, step, chunk and file goes over the channel to the worker."""

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
from taskmill.engine.context import StateScope
from taskmill.engine.events import LogMessage
from taskmill.engine.record import Progress
from taskmill.engine.steps import as_json, not_inside, run_step
from taskmill.workers.attempts.log_messages import fitting
from taskmill.workers.isolation.messages import Message, encoded, exception_from_json

__all__ = ["RemoteCallerState", "RemoteJournal", "RemoteOutput", "WorkerChannel"]


class WorkerChannel:
    """The channel to the worker. Sending never waits for the worker, and works from any thread."""

    def __init__(self, socket_: socket.socket) -> None:
        self._socket = socket_
        self._outgoing: queue.SimpleQueue[Message | Callable[[], object] | None] = queue.SimpleQueue()
        self._latest_progress: Progress | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._steps: dict[int, asyncio.Future[None]] = {}
        self.tool: asyncio.Task[Any] | None = None
        """The tool's main task; calls from other tasks are marked `beside`."""
        threading.Thread(target=self._write, name="taskmill.cell", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message, in order."""
        self._outgoing.put(message)

    def progress(self, progress: Progress) -> None:
        """Send the latest progress; an older one that is still unsent is dropped."""
        with self._lock:
            waiting, self._latest_progress = self._latest_progress is not None, progress
        if not waiting:
            self._outgoing.put(None)

    def log(self, message: LogMessage) -> None:
        """Send a log message."""
        sent = fitting(message)
        self.send({"log": [sent.level, sent.data, sent.logger]})

    async def call(self, method: str, given: Any, *, state: Any = None, at: Callable[[int], None] | None = None) -> Any:
        """Call a method of the worker; its reply.

        Raises:
            Exception: the method raised it in the worker.
        """
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        beside = asyncio.current_task() is not self.tool
        if at is not None:
            at(number)
        self.send({"call": number, "method": method, "given": given, "state": state, "beside": beside})
        message = await reply
        if "error" in message:
            raise exception_from_json(message["error"])
        return message.get("value")

    async def wait_until_sent(self) -> None:
        """Return when all earlier messages are sent: a file must not fill the memory here."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()
        self._outgoing.put(lambda: loop.call_soon_threadsafe(sent.set))
        await sent.wait()

    def expect_step(self, number: int) -> "asyncio.Future[None]":
        """Resolved when the worker asks to perform the step of this call: no earlier attempt did it."""
        wanted = self._steps[number] = asyncio.get_running_loop().create_future()
        return wanted

    def receive(self, message: Message) -> None:
        """Handle a reply of the worker. Event loop only."""
        waiting = self._steps.pop(message["perform"], None) if "perform" in message else None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        answered = self._replies.pop(message["reply"], None) if "reply" in message else None
        if answered is not None and not answered.done():
            answered.set_result(message)

    def _write(self) -> None:
        while True:
            message = self._outgoing.get()
            if callable(message):
                message()
                continue
            if message is None:
                with self._lock:
                    progress, self._latest_progress = self._latest_progress, None
                if progress is None:
                    continue
                message = {"progress": [progress.done, progress.total, progress.message]}
            try:
                self._socket.sendall(encoded(message))
            except OSError:
                return  # the worker is gone, and the reading thread ends this process


class RemoteJournal:
    """Steps and state; the worker saves them."""

    def __init__(self, channel: WorkerChannel, state: dict[str, Any]) -> None:
        self._channel = channel
        self.state = state

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The recorded result of this step; if there is none, run it here and have its result recorded."""
        not_inside(f"Step {name!r}")
        wanted: asyncio.Future[None] | None = None
        number = 0

        def note(at: int) -> None:
            nonlocal wanted, number
            number, wanted = at, self._channel.expect_step(at)

        given = [name, _as_argument_json(list(args)), _as_argument_json(kwargs)]
        call_ = asyncio.ensure_future(self._channel.call("step", given, state=self.state, at=note))
        await asyncio.sleep(0)  # the call starts now, and gets its number
        assert wanted is not None
        await asyncio.wait({call_, wanted}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            try:
                value = as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")
            except BaseException:
                self._channel.send({"performed": number})
                raise
            self._channel.send({"performed": number, "value": value, "state": self.state})
        return await call_

    async def save(self) -> None:
        """Have the worker save the state."""
        await self._channel.call("save", None, state=as_json(self.state, what="The task's state"))


class RemoteCallerState:
    """Values kept for the caller; the worker keeps them."""

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel

    async def read(self, name: str, scope: StateScope | None) -> list[Any]:
        """See `CallerStatePort`."""
        found: list[Any] = await self._channel.call("read_state", [name, scope])
        return found

    async def write(self, name: str, value: Any, scope: StateScope | None) -> None:
        """See `CallerStatePort`."""
        await self._channel.call("write_state", [name, value, scope])

    async def delete(self, name: str, scope: StateScope | None) -> None:
        """See `CallerStatePort`."""
        await self._channel.call("delete_state", [name, scope])


class RemoteOutput:
    """Output and artifacts; the worker saves them."""

    def __init__(self, channel: WorkerChannel, inline_limit: int) -> None:
        self._channel = channel
        self.inline_limit = inline_limit

    async def emit(self, chunk: Any) -> None:
        """Append a chunk of output."""
        await self._channel.call("emit", chunk)

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Attach a file as an artifact."""
        numbers: list[int] = []
        call_ = asyncio.ensure_future(
            self._channel.call("attach", {"name": name, "mime_type": mime_type}, at=numbers.append)
        )
        await asyncio.sleep(0)
        async for chunk in content:
            for at in range(0, len(chunk), PIECE):
                if call_.done():
                    break  # the worker refused it; the error is raised below
                chunk64 = base64.b64encode(chunk[at : at + PIECE]).decode()
                self._channel.send({"file": numbers[0], "data": chunk64})
                await self._channel.wait_until_sent()
        self._channel.send({"file": numbers[0], "data": None})
        return Artifact(**await call_)


def _as_argument_json(value: Any) -> Any:
    """`value` as JSON; a value that is not JSON becomes its type's name, as in the journal."""
    return json.loads(json.dumps(value, default=lambda one: type(one).__qualname__))
