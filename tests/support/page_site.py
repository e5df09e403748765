"""A site on loopback that has pages of docs/, links included."""

import html
import re
from pathlib import Path

from tests.support.holding_server import HoldingServer, Reply

__all__ = ["DOCS", "PageSite"]

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[([^\]]+)\]\(([\w/.-]+)\.md(#[\w-]+)?\)")
HEAD = "<!doctype html><meta charset=utf-8><title>{}</title><pre>"
RULES = "/robots.txt"


class PageSite(HoldingServer):
    """`names`: the pages it has, from docs/, without their ending; `/` links to each of them. `rules`: robots.txt."""

    def __init__(self, names: list[str], rules: str = "") -> None:
        super().__init__()
        self.pages = {f"/{name}.html": page_of(name) for name in names}
        self.pages["/"] = "".join([HEAD.format("contents"), *(f'<a href="{name}.html">{name}</a>\n' for name in names)])
        self.rules = rules

    def counted(self, path: str, body: str) -> str:
        return "" if path == RULES else path

    def reply(self, path: str, body: str) -> Reply:
        text = self.rules if path == RULES else self.pages.get(path, "")
        return 200 if text else 404, "text/plain" if path == RULES else "text/html; charset=utf-8", text


def page_of(name: str) -> str:
    """A page of docs/ as HTML, its links to other pages as links."""
    text = html.escape((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    return HEAD.format(name) + LINK.sub(r'<a href="\2.html\3">\1</a>', text)
