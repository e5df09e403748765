"""One attempt in a process for isolated tools: what its tool asks of the worker, and how it ends.

The process itself is `cell.py`'s.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from taskmill.engine.context import TaskContext
from taskmill.workers.isolation.messages import Message, frame, read_frame, told

__all__ = ["IsolatedAttempt"]


class _StepFailed(Exception):
    """The step raised there; the tool has the exception, and this side only must not record a result."""


class IsolatedAttempt:
    """One attempt there: what its tool asks of the worker, and how it ends."""

    def __init__(self, writer: asyncio.StreamWriter, context: TaskContext) -> None:
        self._writer = writer
        self._context = context
        self._calls: asyncio.Queue[Message | None] = asyncio.Queue()
        self._steps: dict[int, asyncio.Future[Any]] = {}
        self._files: dict[int, asyncio.Queue[bytes | None]] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()
        """Set when the tool has ended, or its process."""
        self.stuck = False
        """Whether the tool left a thread behind that still runs."""

    async def read_all(self, reader: asyncio.StreamReader) -> None:
        """Take what the process says until the attempt is over."""
        while True:
            message = await read_frame(reader)
            if message is None or "outcome" in message or "crash" in message:
                self.stuck = message is not None and message["stuck"]
                self.over.set()
                self._calls.put_nowait(message)
                return
            if "progress" in message:
                await self._context.report_progress(*message["progress"])
            elif "performed" in message:
                self._steps.pop(message["performed"]).set_result(message)
            elif "file" in message:
                data = message["data"]
                await self._files[message["file"]].put(None if data is None else base64.b64decode(data))
            else:
                self._take(message)

    async def serve(self) -> Message | None:
        """Do what the tool's own thread of work asks, one after the other; how it ended, None = its process died.

        In the attempt's own asyncio task, by which the journal tells it from the tool's other branches.
        """
        while True:
            message = await self._calls.get()
            if message is None or "call" not in message:
                return message
            await self._answer(message)

    def close(self) -> None:
        """Nothing more is done for this attempt."""
        for task in self._beside:
            task.cancel()

    def _take(self, call: Message) -> None:
        if call["method"] == "attach":
            self._files[call["call"]] = asyncio.Queue(4)
        if not call["beside"]:
            self._calls.put_nowait(call)
            return
        task = asyncio.create_task(self._answer(call))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _answer(self, call: Message) -> None:
        reply: Message = {"reply": call["call"]}
        try:
            reply["value"] = await self._do(call)
        except _StepFailed:
            reply["failed"] = True
        except Exception as exc:
            reply["error"] = told(exc)
        if not self._writer.is_closing():
            self._writer.write(frame(reply))
            await self._writer.drain()

    async def _do(self, call: Message) -> Any:
        given = call["given"]
        if call["method"] in ("ask", "step", "save"):
            self._context.journal.state = call["state"]
        match call["method"]:
            case "ask":
                return await self._context.ask(given)
            case "emit":
                return await self._context.emit(given)
            case "save":
                return await self._context.journal.save()
            case "step":
                name, args, kwargs = given

                async def perform(*_args: Any, **_kwargs: Any) -> Any:
                    return await self._performed(call["call"])

                return await self._context.journal.step(name, perform, *args, **kwargs)
            case "attach":
                content = self._content(call["call"])
                artifact = await self._context.attach(content, name=given["name"], mime_type=given["mime_type"])
                return asdict(artifact)
            case unknown:
                raise ValueError(f"no such call: {unknown}")

    async def _performed(self, number: int) -> Any:
        done = self._steps[number] = asyncio.get_running_loop().create_future()
        self._writer.write(frame({"perform": number}))
        message = await done
        if "value" not in message:
            raise _StepFailed
        return message["value"]

    async def _content(self, number: int) -> AsyncIterator[bytes]:
        while (chunk := await self._files[number].get()) is not None:
            yield chunk
