"""A desktop host made of a process, two pipes and `json`: it starts a command and speaks JSON-RPC with it by lines.

It knows no SDK and nothing of Taskmill. What the server should answer stands in the tests.
"""

import contextlib
import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

__all__ = ["MODERN", "RawHost"]

MODERN = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
Json = dict[str, Any]


class RawHost:
    """One server process. Requests go out in the 2026-07-28 era, with tasks, unless `initialize` was sent before."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self.log = log
        self.lines: list[str] = []
        """Everything that came over standard output."""
        self._is_modern = True
        self._ids = itertools.count(1)
        self._messages: queue.Queue[Json | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    @contextlib.contextmanager
    def started(cls, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Iterator[Self]:
        """A host whose server is gone in the end."""
        host = cls(command, environment, folder, log)
        try:
            yield host
        finally:
            host.process.kill()
            host.process.wait()
            host._reader.join(30)
            for pipe in (host.process.stdin, host.process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()

    def initialize(self) -> Json:
        """Shake hands as a client of 2025-11-25 does; requests are then of that era."""
        self._is_modern = False
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "raw-stdio", "version": "1"},
        }
        result = self.request("initialize", params)
        self._write({"method": "notifications/initialized"})
        return result

    def send(self, method: str, params: Json) -> int:
        """Send a request and return its id at once."""
        meta: Json = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "raw-stdio", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "extensions": {TASKS: {}}},
        }
        request_id = next(self._ids)
        self._write(
            {"id": request_id, "method": method, "params": params | ({"_meta": meta} if self._is_modern else {})}
        )
        return request_id

    def notify(self, method: str, params: Json) -> None:
        """Send a notification."""
        self._write({"method": method, "params": params})

    def request(self, method: str, params: Json | None = None, within: float = 30.0) -> Json:
        """Send a request and read until its answer; the result."""
        return self.answer(self.send(method, params or {}), within)

    def answer(self, request_id: int, within: float = 30.0) -> Json:
        """Read until a request is answered; its result."""
        while True:
            try:
                message = self._messages.get(timeout=within)
            except queue.Empty:
                raise AssertionError(f"no answer within {within:g} s:\n{self.log.read_text()}") from None
            assert message is not None, f"it ended with {self.process.wait(30)}:\n{self.log.read_text()}"
            if message.get("id") == request_id:
                assert "result" in message, message
                result: Json = message["result"]
                return result

    def call_as_task(self, tool: str, **arguments: Any) -> str:
        """Call a task tool; the id of its task."""
        created = self.request("tools/call", {"name": tool, "arguments": arguments})
        assert created["resultType"] == "task", created
        return str(created["taskId"])

    def task(self, task_id: str) -> Json:
        """The task as it is."""
        return self.request("tasks/get", {"taskId": task_id})

    def answer_questions(self, task_id: str, **content: Any) -> None:
        """Answer every open question of a task with the same content."""
        answer = {"action": "accept", "content": content}
        answers = dict.fromkeys(self.task(task_id)["inputRequests"], answer)
        self.request("tasks/update", {"taskId": task_id, "inputResponses": answers})

    def close_input(self) -> None:
        """Close the server's standard input, as a host does that wants it to end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _write(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode())
            with contextlib.suppress(ValueError):
                self._messages.put(json.loads(line))
        self._messages.put(None)
