"""An MCP client made of `http.client` and `json`, written from the specification of 2026-07-28 and its tasks extension.

It knows no SDK and nothing of Taskmill, so it finds what two ends of one library would agree on by mistake. One
connection a request, nothing shared between them: the revision has neither sessions nor order.
"""

import base64
import http.client
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["TASKS", "RawClient", "Refused", "Reply", "Subscription"]

REVISION = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
# Which parameter goes into the Mcp-Name header (Streamable HTTP, "Standard Request Headers"; tasks, "Routing Headers").
NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

Json = dict[str, Any]


class Refused(Exception):
    """The server answered with a JSON-RPC error."""

    def __init__(self, http_status: int, error: Json) -> None:
        super().__init__(f"HTTP {http_status}: {error['code']} {error['message']}")
        self.http_status = http_status
        self.code: int = error["code"]
        self.data: Any = error.get("data")


@dataclass(frozen=True)
class Reply:
    """A result, and the notifications that came before it on the same stream."""

    result: Json
    notifications: list[Json] = field(default_factory=list)


class RawClient:
    """Speaks to one MCP endpoint; declares that it knows tasks and can be asked, unless told otherwise."""

    def __init__(self, url: str, capabilities: Json | None = None, timeout: float = 20) -> None:
        """`timeout`: seconds without a byte after which a request is given up."""
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path = parts.path
        self._timeout = timeout
        self._ids = itertools.count(1)
        able: Json = {"elicitation": {}, "extensions": {TASKS: {}}}
        self._capabilities = able if capabilities is None else capabilities

    def request(self, method: str, params: Json | None = None, headers: Json | None = None) -> Reply:
        """Send one request and read until its answer; `headers` replaces ours by name, and None leaves one out."""
        with self._post(method, params or {}, headers or {}) as (request_id, response):
            notifications = []
            for message in _messages(response):
                if "id" not in message:
                    notifications.append(message)
                    continue
                assert "method" not in message, f"the server may not send requests on this stream: {message}"
                if "error" in message:
                    raise Refused(response.status, message["error"])
                assert message["id"] == request_id, f"an answer to another request: {message}"
                return Reply(message["result"], notifications)
        raise AssertionError(f"the stream of {method} ended without an answer, HTTP {response.status}")

    def discover(self) -> Json:
        return self.request("server/discover").result

    def call_tool(self, name: str, arguments: Json | None = None, **more: Any) -> Json:
        """`more` goes into `params`, beside the name and the arguments."""
        return self.request("tools/call", {"name": name, "arguments": arguments or {}, **more}).result

    def get_task(self, task_id: str) -> Json:
        return self.request("tasks/get", {"taskId": task_id}).result

    def update_task(self, task_id: str, responses: Json) -> Json:
        return self.request("tasks/update", {"taskId": task_id, "inputResponses": responses}).result

    def cancel_task(self, task_id: str) -> Json:
        return self.request("tasks/cancel", {"taskId": task_id}).result

    @contextmanager
    def listen(self, notifications: Json) -> Iterator["Subscription"]:
        """Open a stream of notifications, e.g. `{"taskIds": [...]}`; leaving the block closes it."""
        with self._post("subscriptions/listen", {"notifications": notifications}, {}) as (request_id, response):
            yield Subscription(request_id, response)

    @contextmanager
    def _post(self, method: str, params: Json, headers: Json) -> Iterator[tuple[int, http.client.HTTPResponse]]:
        request_id = next(self._ids)
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": self._with_envelope(params)}
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
        try:
            sent = {**_headers(method, params), **headers}
            kept = {name: value for name, value in sent.items() if value is not None}
            connection.request("POST", self._path, json.dumps(body), kept)
            response = connection.getresponse()
            yield request_id, response
        finally:
            connection.close()

    def _with_envelope(self, params: Json) -> Json:
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "raw-http", "version": "1.0.0"},
            "io.modelcontextprotocol/clientCapabilities": self._capabilities,
        }
        return {**params, "_meta": meta | params.get("_meta", {})}


class Subscription:
    """The notifications of one `subscriptions/listen` stream, in the order in which they arrive."""

    def __init__(self, request_id: int, response: http.client.HTTPResponse) -> None:
        self._messages = _messages(response)
        first = next(self._messages)
        if "error" in first:
            raise Refused(response.status, first["error"])
        assert first["method"] == "notifications/subscriptions/acknowledged", f"not an acknowledgment: {first}"
        self._request_id = request_id
        self.acknowledged = self._checked(first)["params"]["notifications"]

    def __iter__(self) -> Iterator[Json]:
        return map(self._checked, self._messages)

    def _checked(self, message: Json) -> Json:
        """Every notification names the request that opened its stream (Subscriptions, "Receiving Notifications")."""
        assert message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == self._request_id, message
        return message


def _headers(method: str, params: Json) -> Json:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": method,
    }
    if method in NAMED_BY:
        headers["Mcp-Name"] = _header_value(params[NAMED_BY[method]])
    return headers


def _header_value(value: str) -> str:
    """The value, or its Base64 form where a header could not carry it (Streamable HTTP, "Value Encoding")."""
    plain = value.isascii() and value.isprintable() and value == value.strip()
    if plain and not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _messages(response: http.client.HTTPResponse) -> Iterator[Json]:
    """The JSON-RPC messages of a response: one, or as many as its event stream carries."""
    kind = response.getheader("Content-Type", "").partition(";")[0]
    if kind == "application/json":
        yield json.load(response)
        return
    assert kind == "text/event-stream", f"HTTP {response.status} with content type {kind!r}"
    data: list[str] = []
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:  # a blank line ends an event; comments and other fields carry no message
            if any(data):
                yield json.loads("\n".join(data))
            data = []
