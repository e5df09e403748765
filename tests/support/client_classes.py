"""The classes of client, behind one interface: call a tool, see how far it is, answer, cancel, have the result."""

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.client_wires import Json, ModernHttp, ModernPipes, RpcError, Wire

ENDED = ("completed", "failed", "cancelled")
TIMEOUT = 30.0


class Task:
    """One call of a task tool, from the client's side."""

    def status(self) -> tuple[str, str]:
        """The wire's word for the state, and the words for a person."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End it.

        Raises:
            RpcError: the dialect refuses, because it has ended.
        """
        raise NotImplementedError

    def result(self) -> Json:
        """The tool's own result, questions answered on the way.

        Raises:
            RpcError: there is none.
        """
        raise NotImplementedError

    def until(self, wanted: Callable[[tuple[str, str]], bool]) -> tuple[str, str]:
        """Look until the status is as wanted."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if wanted(seen := self.status()):
                return seen
            time.sleep(0.02)
        raise AssertionError(f"still {seen}")


class Client:
    """One client; `answer` gives the name for a question's words."""

    has_tasks = True

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.asked: list[str] = []
        """The words of forms and links."""
        self.requests: list[Json] = []
        """Every question."""
        self.meta: Json = {}
        """`_meta` of its calls."""

    def answer(self, request: Json) -> Json:
        """Answer a form with its own words, without the question mark; open a link, tell a joke, name a root."""
        params = request.get("params") or {}
        self.requests.append(request)
        match request["method"]:
            case "sampling/createMessage":
                return {"role": "assistant", "content": {"type": "text", "text": "Knock knock."}, "model": "small-1"}
            case "roots/list":
                return {"roots": [{"uri": "file:///srv"}]}
        words = str(params["message"])
        self.asked.append(words)
        return {"action": "accept", **({} if params.get("mode") == "url" else {"content": {"name": words.rstrip("?")}})}

    def call(self, tool: str, arguments: Json) -> Json:
        """Parameters of `tools/call`."""
        return {"name": tool, "arguments": arguments, **({"_meta": self.meta} if self.meta else {})}

    def begin(self, tool: str, **arguments: Any) -> Task:
        """Call a task tool.

        Raises:
            RpcError: it did not come to a task.
        """
        raise NotImplementedError


class Tasks2026(Client):
    """Declares the extension."""

    def begin(self, tool: str, **arguments: Any) -> Task:
        created = self.wire.request("tools/call", self.call(tool, arguments))
        if created["resultType"] != "task":
            raise RpcError({"code": 0, "message": created["content"][0]["text"]})
        return _Task2026(self, created["taskId"])


class _Task2026(Task):
    def __init__(self, client: Client, task_id: str) -> None:
        self.id = task_id
        self._client = client

    def get(self) -> Json:
        return self._client.wire.request("tasks/get", {"taskId": self.id})

    def status(self) -> tuple[str, str]:
        task = self.get()
        return task["status"], task["statusMessage"]

    def cancel(self) -> None:
        self._client.wire.request("tasks/cancel", {"taskId": self.id})

    def result(self) -> Json:
        answered: set[str] = set()
        deadline = time.monotonic() + TIMEOUT
        while (task := self.get())["status"] not in ENDED:
            assert time.monotonic() < deadline, task
            fresh = {key: ask for key, ask in task.get("inputRequests", {}).items() if key not in answered}
            if fresh:
                answered |= fresh.keys()
                answers = {key: self._client.answer(ask) for key, ask in fresh.items()}
                self._client.wire.request("tasks/update", {"taskId": self.id, "inputResponses": answers})
            time.sleep(0.02)
        if task["status"] == "failed":
            raise RpcError(task["error"])
        if task["status"] == "cancelled":
            raise RpcError({"code": 0, "message": "cancelled"})
        result: Json = task["result"]
        return result


class Tasks2025(Client):
    """Sends `task` with its calls."""

    def begin(self, tool: str, **arguments: Any) -> Task:
        created = self.wire.request("tools/call", {**self.call(tool, arguments), "task": {}})
        return _Task2025(self, created["task"]["taskId"])


class _Task2025(_Task2026):
    def result(self) -> Json:
        self._client.wire.answer = self._client.answer
        result = self._client.wire.request("tasks/result", {"taskId": self.id})
        assert result.pop("_meta")["io.modelcontextprotocol/related-task"] == {"taskId": self.id}
        return result


class Plain(Client):
    """Knows no tasks: its call is held. Looks at it with the follow-up tools, as a model would."""

    has_tasks = False

    def __init__(self, wire: Wire, other: Wire) -> None:
        """`other`: a second connection of the same client, for looking while the first one waits."""
        super().__init__(wire)
        self.other = other

    def begin(self, tool: str, **arguments: Any) -> Task:
        return _Held(self, tool, arguments)

    def follow_up(self, tool: str, **arguments: Any) -> str:
        """What a follow-up tool says."""
        text: str = self.other.request("tools/call", {"name": tool, "arguments": arguments})["content"][0]["text"]
        return text


class _Held(Task):
    def __init__(self, client: Plain, tool: str, arguments: Json) -> None:
        self._client = client
        self._before = set(self._listed())
        self._outcome: Json | RpcError | None = None
        client.wire.answer = client.answer
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "held", **client.meta}}
        self._thread = threading.Thread(target=self._call, args=(params,), daemon=True)
        self._thread.start()

    def _call(self, params: Json) -> None:
        try:
            self._outcome = self._client.wire.request("tools/call", params)
        except RpcError as error:
            self._outcome = error

    def _listed(self) -> list[str]:
        return [line for line in self._client.follow_up("task_list").splitlines() if line.startswith("Task ")]

    @property
    def id(self) -> str:
        """Of the task that this call has become."""
        deadline = time.monotonic() + TIMEOUT
        known = {line.split()[1] for line in self._before}
        while time.monotonic() < deadline:
            fresh = {line.split()[1] for line in self._listed()} - known
            if fresh:
                return fresh.pop()
            time.sleep(0.02)
        raise AssertionError("no task")

    def status(self) -> tuple[str, str]:
        said = self._client.follow_up("task_status", task_id=self.id)
        word, _, words = said.partition(" - ")[2].partition(": ")
        return word, words.splitlines()[0]

    def cancel(self) -> None:
        self._client.follow_up("task_cancel", task_id=self.id)

    def result(self) -> Json:
        self._thread.join(TIMEOUT)
        if isinstance(self._outcome, RpcError):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


def is_modern(client: Client) -> bool:
    """Whether the client speaks 2026-07-28."""
    return isinstance(client.wire, ModernHttp | ModernPipes)
