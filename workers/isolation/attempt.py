"""One attempt in a tool process: what its tool requests of the worker, and how it ends.

Starting and ending the process is in `process.py`.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import structlog

from taskmill.engine.context import TaskContext
from taskmill.workers.isolation.messages import Message, UnfitMessage, encoded, exception_to_json, read_message

__all__ = ["IsolatedAttempt"]

log = structlog.get_logger()
_MOST_CALLS = 10_000
"""Of one attempt, at the same time: more could fill the worker's memory."""


class _StepFailed(Exception):
    """The step raised in the tool process. The tool has the exception; here no result must be recorded."""


class IsolatedAttempt:
    """Reads the tool's requests, does them, and sends the replies."""

    def __init__(self, writer: asyncio.StreamWriter, context: TaskContext) -> None:
        self._writer = writer
        self._context = context
        self._calls: asyncio.Queue[Message | None] = asyncio.Queue()
        self._steps: dict[int, asyncio.Future[Any]] = {}
        self._files: dict[int, asyncio.Queue[bytes | None]] = {}
        self._concurrent: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        """Set when the tool has ended, or its process."""
        self.is_stuck = False
        """Whether the tool left a thread running."""
        self.is_garbled = False
        """Whether its process sent what is no message."""

    async def read_all(self, reader: asyncio.StreamReader) -> None:
        """Receive what the process sends until the attempt has ended."""
        end: Message | None = None
        try:
            while (message := await read_message(reader)) is not None:
                if "outcome" in message or "crash" in message:
                    end, self.is_stuck = message, bool(message["stuck"])
                    break
                await self._receive(message)
        except Exception as exc:  # a tool may write to its worker itself, whatever it likes
            log.warning("tool.sent_no_message", error=f"{type(exc).__name__}: {exc}"[:200])
            self.is_garbled = True
        self.ended.set()
        self._calls.put_nowait(end)

    async def _receive(self, message: Message) -> None:
        if "progress" in message:
            await self._context.report_progress(*message["progress"])
        elif "log" in message:
            level, data, logger = message["log"]
            self._context.log(str(level), data, None if logger is None else str(logger))
        elif "performed" in message:
            self._steps.pop(message["performed"]).set_result(message)
        elif "file" in message:
            data = message["data"]
            await self._files[message["file"]].put(None if data is None else base64.b64decode(data))
        else:
            self._accept(message)

    async def serve(self) -> Message | None:
        """Do the requests of the tool's main task, one after the other; returns how it ended, None = its process died.

        This runs in the attempt's own asyncio task: by that the journal knows the main task from concurrent ones.
        """
        while True:
            message = await self._calls.get()
            if message is None or "call" not in message:
                return message
            await self._answer(message)

    def close(self) -> None:
        """Stop: nothing more is done for this attempt."""
        for task in self._concurrent:
            task.cancel()

    def _accept(self, call: Message) -> None:
        if self._calls.qsize() + len(self._concurrent) >= _MOST_CALLS:
            raise UnfitMessage("too many calls that are not answered yet")
        if call["method"] == "attach":
            self._files[call["call"]] = asyncio.Queue(4)
        if not call["beside"]:
            self._calls.put_nowait(call)
            return
        task = asyncio.create_task(self._answer(call))
        self._concurrent.add(task)
        task.add_done_callback(self._concurrent.discard)

    async def _answer(self, call: Message) -> None:
        reply: Message = {"reply": call["call"]}
        try:
            reply["value"] = await self._do(call)
        except _StepFailed:
            reply["failed"] = True
        except Exception as exc:
            reply["error"] = exception_to_json(exc)
        if not self._writer.is_closing():
            self._writer.write(encoded(reply))
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
                    return await self._step_result(call["call"])

                return await self._context.journal.step(name, perform, *args, **kwargs)
            case "read_state":
                return await self._context.caller_state.read(*given)
            case "write_state":
                return await self._context.caller_state.write(*given)
            case "delete_state":
                return await self._context.caller_state.delete(*given)
            case "attach":
                content = self._content(call["call"])
                artifact = await self._context.attach(content, name=given["name"], mime_type=given["mime_type"])
                return asdict(artifact)
            case unknown:
                raise ValueError(f"no such call: {unknown}")

    async def _step_result(self, number: int) -> Any:
        done = self._steps[number] = asyncio.get_running_loop().create_future()
        self._writer.write(encoded({"perform": number}))
        message = await done
        if "value" not in message:
            raise _StepFailed
        return message["value"]

    async def _content(self, number: int) -> AsyncIterator[bytes]:
        while (chunk := await self._files[number].get()) is not None:
            yield chunk
