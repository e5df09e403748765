"""A site on loopback that has pages of docs/, links included. It can keep a request waiting."""

import contextlib
import html
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import WAIT_SECONDS, eventually

__all__ = ["PageSite"]

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[([^\]]+)\]\(([\w/.-]+)\.md(#[\w-]+)?\)")
HEAD = "<!doctype html><meta charset=utf-8><title>{}</title><pre>"


class PageSite:
    """A running site. `names` are the pages it has, from docs/, without their ending; `/` links to each of them."""

    def __init__(self, names: list[str], rules: str = "") -> None:
        self.pages = {f"/{name}.html": page_of(name) for name in names}
        self.pages["/"] = "".join([HEAD.format("contents"), *(f'<a href="{name}.html">{name}</a>\n' for name in names)])
        self.rules = rules
        self.requests: list[str] = []
        """Paths, in the order in which they were asked for."""
        self.waiting = ""
        """The path of the request that waits."""
        self._passing = -1
        self._released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                body = site.rules if self.path == "/robots.txt" else site.pages.get(self.path, "")
                site.wait_if_held(self.path)
                self.send_response(200 if body else 404)
                self.send_header("content-type", "text/html" if body.startswith("<") else "text/plain")
                self.send_header("content-length", str(len(body.encode())))
                with contextlib.suppress(ConnectionError):  # its client was killed
                    self.end_headers()
                    self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def hold_after(self, pages: int) -> None:
        """Answer so many requests for pages, counted from the start, and keep the one after them waiting."""
        self.waiting, self._passing = "", pages
        self._released.set()
        self._released = threading.Event()

    def wait_if_held(self, path: str) -> None:
        asked = sum(one != "/robots.txt" for one in self.requests)
        if asked == self._passing + 1 and path != "/robots.txt":
            released, self.waiting = self._released, path
            released.wait(WAIT_SECONDS)

    def until_held(self) -> str:
        """Wait until a request is kept; its path."""
        return eventually(lambda: self.waiting)

    def release(self) -> None:
        """Answer the request that waits, and all that follow."""
        self._passing = -1
        self._released.set()


def page_of(name: str) -> str:
    """A page of docs/ as HTML, its links to other pages as links."""
    text = html.escape((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    return HEAD.format(name) + LINK.sub(r'<a href="\2.html\3">\1</a>', text)
