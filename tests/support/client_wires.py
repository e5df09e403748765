"""JSON-RPC over HTTP and over the pipes of a process, in both eras. Synchronous, and nothing of the SDK's."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx2

Json = dict[str, Any]
Answer = Callable[[Json], Json]
"""Takes a request of the server's, gives its result."""

TASKS = "io.modelcontextprotocol/tasks"
CAPABILITIES: Json = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}
TIMEOUT = 30.0


class RpcError(Exception):
    """The server answered with an error."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.error = error


class Wire:
    """One client's connection."""

    revision = ""

    def __init__(self) -> None:
        self.received: list[Json] = []
        """Notifications, in the order in which they came."""
        self.answer: Answer = lambda _request: {"action": "decline"}
        self._ids = count(2)

    def request(self, method: str, params: Json | None = None) -> Json:
        """The result.

        Raises:
            RpcError: the server answered with an error.
        """
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params or {}}
        reply = self.exchange(body)
        if "error" in reply:
            raise RpcError(reply["error"])
        result: Json = reply["result"]
        return result

    def exchange(self, body: Json) -> Json:
        """Send a request, hear what comes meanwhile, and return the response."""
        raise NotImplementedError

    def take(self, message: Json) -> Json | None:
        """Note a notification, answer a request; a response is returned."""
        if "method" not in message:
            return message
        if "id" in message:
            self.send({"jsonrpc": "2.0", "id": message["id"], "result": self.answer(message)})
        else:
            self.received.append(message)
        return None

    def send(self, body: Json) -> None:
        """Send a message that is not answered."""
        raise NotImplementedError


class Http(Wire):
    """Streamable HTTP of a revision before 2026."""

    revision = "2025-11-25"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._http = httpx2.Client(timeout=TIMEOUT)
        self._url = url
        self._session: str | None = None
        initialize(self)

    def headers(self, body: Json) -> dict[str, str]:
        session = {} if self._session is None else {"mcp-session-id": self._session}
        accept = "application/json, text/event-stream"
        return {"accept": accept, "mcp-protocol-version": self.revision, **session}

    def exchange(self, body: Json) -> Json:
        with self._http.stream("POST", self._url, json=body, headers=self.headers(body)) as response:
            self._session = response.headers.get("mcp-session-id", self._session)
            if response.headers["content-type"].startswith("application/json"):
                reply: Json = json.loads(response.read())
                return reply
            for message in events(response.iter_lines()):
                reply_or_none = self.take(message)
                if reply_or_none is not None:
                    return reply_or_none
        raise AssertionError("the stream ended without a response")

    def send(self, body: Json) -> None:
        assert self._http.post(self._url, json=body, headers=self.headers(body)).status_code == 202


class ModernHttp(Http):
    """Streamable HTTP of 2026-07-28: every request stands alone."""

    revision = "2026-07-28"

    def __init__(self, url: str, capabilities: Json) -> None:
        self.capabilities = capabilities
        super().__init__(url)

    def headers(self, body: Json) -> dict[str, str]:
        params = body["params"]
        name = params.get("name") or params.get("taskId")
        named = {} if name is None else {"mcp-name": name}
        return {**super().headers(body), "mcp-method": body["method"], **named}

    def exchange(self, body: Json) -> Json:
        return super().exchange(enveloped(body, self.capabilities))

    def listen(self, task_id: str) -> Iterator[Json]:
        """The notifications of a task, as they come."""
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": "subscriptions/listen"}
        body |= {"params": {"notifications": {"taskIds": [task_id]}}}
        whole = enveloped(body, self.capabilities)
        with self._http.stream("POST", self._url, json=whole, headers=self.headers(whole)) as response:
            yield from events(response.iter_lines())


class Pipes(Wire):
    """The standard input and output of a process, in the era of the handshake."""

    revision = "2025-11-25"

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__()
        self._process = process
        self._lines: queue.Queue[Json] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        initialize(self)

    def exchange(self, body: Json) -> Json:
        self.send(body)
        while True:
            message = self._lines.get(timeout=TIMEOUT)
            reply = self.take(message)
            if reply is not None and reply["id"] == body["id"]:
                return reply

    def send(self, body: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(body) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))


class ModernPipes(Pipes):
    """The same in the era of 2026-07-28."""

    revision = "2026-07-28"

    def __init__(self, process: "subprocess.Popen[str]", capabilities: Json) -> None:
        self.capabilities = capabilities
        super().__init__(process)

    def exchange(self, body: Json) -> Json:
        return super().exchange(enveloped(body, self.capabilities))


def initialize(wire: Wire) -> None:
    """The handshake, where the revision has one."""
    if wire.revision >= "2026":
        return
    about = {"protocolVersion": wire.revision, "capabilities": CAPABILITIES}
    wire.exchange(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {**about, "clientInfo": {"name": "behaviour", "version": "1"}},
        }
    )
    wire.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


def enveloped(body: Json, capabilities: Json) -> Json:
    """A request of 2026-07-28, which says who asks."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    return {**body, "params": {**body["params"], "_meta": {**body["params"].get("_meta", {}), **meta}}}


def events(lines: Iterator[str]) -> Iterator[Json]:
    """The messages of a stream of server-sent events."""
    for line in lines:
        if line.startswith("data:") and (data := line.removeprefix("data:").strip()):
            yield json.loads(data)
