"""A server on loopback that can keep a request waiting, until a test has seen or killed something."""

import contextlib
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.support.waiting import WAIT_SECONDS, eventually

__all__ = ["HoldingServer", "Reply"]

Reply = tuple[int, str, str]
"""Status, media type and body."""


class HoldingServer(ABC):
    """A running server; what it answers is said by the class that is made of it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Of each request that counts, what `counted` makes of it, in order."""
        self.waiting = ""
        """The request that waits."""
        self._passing = -1
        self._released = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                server.hold(server.counted(self.path, body))
                status, media_type, text = server.reply(self.path, body)
                with contextlib.suppress(ConnectionError):  # its client was killed
                    self.send_response(status)
                    self.send_header("content-type", media_type)
                    self.send_header("content-length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    @abstractmethod
    def reply(self, path: str, body: str) -> Reply: ...

    @abstractmethod
    def counted(self, path: str, body: str) -> str:
        """How the request is called in `requests`; empty if it does not count, and is never kept."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def hold_after(self, count: int) -> None:
        """Answer so many requests, counted from the start, and keep the one after them waiting."""
        self.waiting, self._passing = "", count
        self._released.set()
        self._released = threading.Event()

    def hold(self, request: str) -> None:
        """Count a request, and keep it if it is its turn."""
        if not request:
            return
        with self._lock:
            self.requests.append(request)
            is_held, released = len(self.requests) == self._passing + 1, self._released
            self.waiting = request if is_held else self.waiting
        if is_held:
            released.wait(WAIT_SECONDS)

    def until_held(self) -> str:
        """Wait until a request is kept; what it is called."""
        return eventually(lambda: self.waiting)

    def release(self) -> None:
        """Answer the request that waits, and all that follow."""
        self._passing = -1
        self._released.set()
