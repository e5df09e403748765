"""A model on loopback that follows a script, by Anthropic's and OpenAI's APIs. The conversation decides what it does.

So a call that is made again is answered alike, and `calls` shows that it was made twice.
"""

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import WAIT_SECONDS

__all__ = ["Held", "Move", "Refusal", "ScriptedModel", "call", "say"]

Move = list[dict[str, Any]]
"""What an answer has, in the protocol's form: texts and tool calls."""
Refusal = tuple[int, dict[str, str], Any]
"""Status, headers and body of an answer that is none."""


def say(text: str) -> Move:
    return [{"type": "text", "text": text}]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "name": name, "input": arguments}


class Held:
    """A request that waits for its answer."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._decided = threading.Event()
        self._dropped = False

    def drop(self) -> None:
        """It gets none: who sent it is dead."""
        self._dropped = True
        self._decided.set()

    def wait(self) -> bool:
        """Whether it is answered, once that is decided."""
        self.reached.set()
        self._decided.wait(WAIT_SECONDS)
        return not self._dropped


class ScriptedModel:
    """`script[n]` is its answer to a conversation with n answers in it; after the script it says "done".

    `refusals` are sent first, one a request.
    """

    def __init__(self, script: Sequence[Move], *, refusals: Sequence[Refusal] = (), stop: str = "") -> None:
        self.script = list(script)
        self.refusals = list(refusals)
        self._held: dict[int, Held] = {}
        self.requests: list[dict[str, Any]] = []
        """Their bodies, in order; of refused ones too."""
        self.headers: list[dict[str, str]] = []
        self.calls: list[int] = []
        """Of each request that was answered, the number of answers in its conversation."""
        self._stop = stop
        self._lock = threading.Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
                answered = model.answer(self.path, dict(self.headers), body)
                if answered is None:
                    return
                status, headers, reply = answered
                text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                try:
                    self.send_response(status)
                    for name, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except ConnectionError:
                    pass  # its client was killed

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which both SDKs find it."""
        return {
            "ANTHROPIC_API_KEY": "sk-ant-secret",
            "ANTHROPIC_BASE_URL": self.url,
            "OPENAI_API_KEY": "sk-secret",
            "OPENAI_BASE_URL": f"{self.url}/v1",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hold(self, number: int) -> "Held":
        """Do not answer the next request whose conversation has so many answers, until the test says so."""
        held = self._held[number] = Held()
        return held

    def answer(
        self, path: str, headers: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, str], Any] | None:
        number = sum(message["role"] == "assistant" for message in body["messages"])
        with self._lock:
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            if self.refusals:
                return self.refusals.pop(0)
            held = self._held.pop(number, None)
        if held is not None and not held.wait():
            return None
        self.calls.append(number)
        move = self.script[number] if number < len(self.script) else say("done")
        blocks = [
            {"id": f"call-{number}-{at}", **one} if one["type"] == "tool_use" else one for at, one in enumerate(move)
        ]
        form = self._anthropic if path == "/v1/messages" else self._openai
        return 200, {}, form(body["model"], blocks)

    def _anthropic(self, model: str, blocks: Move) -> dict[str, Any]:
        calls = any(one["type"] == "tool_use" for one in blocks)
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": blocks,
            "stop_reason": self._stop or ("tool_use" if calls else "end_turn"),
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }

    def _openai(self, model: str, blocks: Move) -> dict[str, Any]:
        calls = [
            {
                "id": one["id"],
                "type": "function",
                "function": {"name": one["name"], "arguments": one.get("raw") or json.dumps(one["input"])},
            }
            for one in blocks
            if one["type"] == "tool_use"
        ]
        text = "".join(one["text"] for one in blocks if one["type"] == "text")
        message = {"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        return {"id": "chat_1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
