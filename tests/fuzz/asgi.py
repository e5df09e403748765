"""One HTTP exchange with an application in this process: the code that runs over a wire, without the wire.

It is bounded. A reply that goes on is left after its first piece, and then the application has to end it.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

__all__ = ["Answer", "Asked", "exchange"]

Header = tuple[bytes, bytes]
TIMEOUT = 30.0
"""Seconds within which a reply has to begin, and to end once its reader has left."""
WAITS = 0.02
"""Seconds for which a request that may wait is waited for."""


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    target: str
    """Path and query, as on the request line."""
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    may_wait: bool = False
    """Whether it may go unanswered for as long as it likes: what it asks about goes on."""
    cuts: tuple[int, ...] = ()
    """Where the body is cut into messages."""

    @property
    def text(self) -> str:
        """All of it, for whoever looks for an echo."""
        said = b"\n".join((self.target.encode(), *(b": ".join(pair) for pair in self.headers), self.body))
        return said.decode("utf-8", "replace")


@dataclass
class Answer:
    """What came of it."""

    status: int = 0
    """0 = nothing."""
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = False
    crash: BaseException | None = None
    """What the application raised: a server would log it."""
    hung: str = ""
    """What did not happen in time."""

    def header(self, name: bytes) -> str:
        """The header's value, '' without it."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    @property
    def is_stream(self) -> bool:
        """Whether it goes on, event by event."""
        return self.header(b"content-type").startswith("text/event-stream")


async def exchange(app: Any, asked: Asked) -> Answer:
    """Send a request and take what comes of it."""
    answer, stirred, gone = Answer(), asyncio.Event(), asyncio.Event()
    pieces = _pieces(asked)

    async def receive() -> dict[str, Any]:
        if pieces:
            return pieces.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], [*message["headers"]]
            return
        answer.body += message.get("body", b"")
        if not message.get("more_body"):
            answer.is_whole = True
        elif answer.body:
            stirred.set()

    serving = asyncio.create_task(app(_scope(asked), receive, send))
    begun = asyncio.create_task(stirred.wait())
    patience = WAITS if asked.may_wait else TIMEOUT
    await asyncio.wait((serving, begun), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if not serving.done():
        if not stirred.is_set() and not asked.may_wait:
            answer.hung = f"no answer within {TIMEOUT:g} s"
        gone.set()
        await asyncio.wait((serving,), timeout=TIMEOUT)
    if not serving.done():
        answer.hung = answer.hung or f"still busy {TIMEOUT:g} s after the client had left"
        serving.cancel()
        await asyncio.wait((serving,), timeout=1)
    elif not serving.cancelled():
        answer.crash = serving.exception()
    return answer


def _scope(asked: Asked) -> dict[str, Any]:
    path, _, query = asked.target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode(),
        "query_string": query.encode("ascii", "replace"),
        "root_path": "",
        "headers": list(asked.headers),
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def _pieces(asked: Asked) -> list[dict[str, Any]]:
    edges = [0, *sorted({cut for cut in asked.cuts if 0 < cut < len(asked.body)}), len(asked.body)]
    parts = [asked.body[start:stop] for start, stop in pairwise(edges)]
    return [{"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)]
