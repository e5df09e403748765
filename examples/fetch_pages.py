"""Fetch a site page by page into a folder. Each page is a step: a killed worker fetches no page twice.

Here: the tool and the parts that fetch, store and read one page. Not here: pages of other sites, and anything that
only a browser sees.
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, TypedDict
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import httpx2
from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Fetch pages")

AGENT = "taskmill-example"
TIMEOUT = 30
SHOWN = 20
LARGEST = 64 * 1024 * 1024
# A page may name any number of links, and what a step returns is kept in Redis.
LINKS = 1000
# The site is there and does not answer right now: the task is tried again, and what it has fetched is kept.
POLICY = TaskConfig(retries=5, backoff=2, retry_on=httpx2.TransportError)


class Page(TypedDict):
    """What a step keeps of a page: `problem` is empty if the page lies in `file`."""

    url: str
    file: str
    bytes: int
    links: list[str]
    problem: str


class Fetched(BaseModel):
    folder: str
    pages: int
    bytes: int
    problems: dict[str, str]
    """Why a page was not fetched, by its address."""
    left: int
    """Pages that are known and were not fetched, because `limit` was reached."""


class Links(HTMLParser):
    """The addresses of a page's links, each once, in order, without what follows `#`."""

    def __init__(self, url: str, html: str) -> None:
        super().__init__()
        self.url = url
        self.found: dict[str, None] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        href = dict(attributes).get("href")
        if tag == "a" and href:
            try:
                self.found[urldefrag(urljoin(self.url, href)).url] = None
            except ValueError:
                return  # no address: `http://[`


class Site:
    """The site that an address belongs to, with an open connection to it."""

    def __init__(self, start: str, folder: Path, http: httpx2.AsyncClient) -> None:
        self.start, self.folder, self.http = start, folder, http
        self.origin = urlsplit(start)[:2]

    def has(self, url: str) -> bool:
        return urlsplit(url)[:2] == self.origin

    async def rules(self) -> str:
        """The text of robots.txt; empty if there is none.

        Raises:
            ToolError: the site cannot be reached.
        """
        try:
            reply = await self.http.get(urljoin(self.start, "/robots.txt"))
        except httpx2.TransportError as error:
            raise ToolError(f"Cannot reach {self.start}: {error}. Is the address right, and is the site up?") from None
        return reply.text[:LARGEST] if reply.is_success else ""

    async def fetch(self, url: str) -> Page:
        """Fetch a page and store it; it is at its place whole or not at all."""
        page = Page(url=url, file=file_name(url), bytes=0, links=[], problem="")
        path = self.folder / page["file"]
        try:
            async with self.http.stream("GET", url) as reply:
                if reply.has_redirect_location:
                    # Its target is a page of its own, and may belong to another site.
                    return page | {"links": [urljoin(url, reply.headers["location"])], "problem": "redirects"}
                if not reply.is_success:
                    return page | {"problem": f"HTTP status {reply.status_code}"}
                path.parent.mkdir(parents=True, exist_ok=True)
                size = await store(reply, path)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, OSError, OverflowError) as error:
            return page | {"problem": str(error)}
        is_html = reply.headers.get("content-type", "").startswith("text/html")
        links = await to_thread.run_sync(links_of, url, path) if is_html else []
        return page | {"bytes": size, "links": [link for link in links if self.has(link)][:LINKS]}


async def store(reply: httpx2.Response, path: Path) -> int:
    """Write the body of a reply to a file; its size in bytes.

    Raises:
        OverflowError: it is larger than LARGEST.
    """
    part = path.with_name(f"{path.name}.part")
    size = 0
    with part.open("wb") as file:
        async for piece in reply.aiter_bytes():
            size += len(piece)
            if size > LARGEST:
                part.unlink()
                raise OverflowError(f"larger than {LARGEST:,} bytes")
            await to_thread.run_sync(file.write, piece)
    os.replace(part, path)
    return size


def links_of(url: str, path: Path) -> list[str]:
    return list(Links(url, path.read_text(encoding="utf-8", errors="replace")).found)


def file_name(url: str) -> str:
    """Where a page is stored, below the folder: `docs/steps.html`. An address can lead to no other place."""
    parts = urlsplit(url)
    names = [re.sub(r"[^\w.-]", "_", name)[:100] for name in unquote(parts.path).split("/")]
    names = [name for name in names[:-1] if name.strip(".")] + [names[-1].strip(".") or "index.html"]
    if not Path(names[-1]).suffix:
        names[-1] += ".html"
    if parts.query:
        digest = hashlib.sha256(parts.query.encode()).hexdigest()[:8]
        names[-1] = f"{Path(names[-1]).stem}-{digest}{Path(names[-1]).suffix}"
    return "/".join(names)


def checked(url: str, folder: str) -> tuple[str, Path]:
    """The address without a fragment, and the folder, which is made if it is not there.

    Raises:
        ToolError: neither can be used.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ToolError(f"{url!r} is no address of a page. Give a whole one: https://example.com/docs/")
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"Cannot write to {path}: {error.strerror}. Name a folder that can be written.") from None
    return urldefrag(url).url, path


def render(fetched: Fetched) -> str:
    """The result as text for a terminal."""
    out = [f"{fetched.pages:,} pages, {fetched.bytes:,} bytes, in {fetched.folder}"]
    out += [f"    not fetched: {url} ({why})" for url, why in list(fetched.problems.items())[:SHOWN]]
    out += ["    ..."] * (len(fetched.problems) > SHOWN)
    return "\n".join([*out, *([f"{fetched.left:,} more were found; limit was reached"] if fetched.left else [])])


def summarise(folder: str, pages: list[Page], left: int) -> Fetched:
    stored = [page for page in pages if not page["problem"]]
    return Fetched(
        folder=folder,
        pages=len(stored),
        bytes=sum(page["bytes"] for page in stored),
        problems={page["url"]: page["problem"] for page in pages if page["problem"] not in ("", "redirects")},
        left=left,
    )


def new_links(page: Page, site: Site, seen: set[str]) -> Iterator[str]:
    """The links of a page that lead to unknown pages of its site; they are known afterwards."""
    for link in page["links"]:
        if link not in seen and site.has(link):
            seen.add(link)
            yield link


@mcp.tool(task=POLICY)
async def fetch_pages(
    url: str, folder: str, ctx: Context, limit: Annotated[int, Field(ge=1, le=10_000)] = 200
) -> Annotated[CallToolResult, Fetched]:
    """Fetch the page at `url` and the pages of its site that it leads to, `limit` at most, into `folder`."""
    start, target = checked(url, folder)
    async with httpx2.AsyncClient(headers={"user-agent": AGENT}, timeout=TIMEOUT) as http:
        site, robots = Site(start, target, http), RobotFileParser()
        robots.parse((await ctx.step("robots.txt", site.rules)).splitlines())
        queue, seen, pages = deque([start]), {start}, list[Page]()
        while queue and len(pages) < limit:
            address = queue.popleft()
            if not robots.can_fetch(AGENT, address):
                pages.append(Page(url=address, file="", bytes=0, links=[], problem="robots.txt forbids it"))
                continue
            page: Page = await ctx.step(f"fetch {address}", site.fetch, address)
            pages.append(page)
            queue += new_links(page, site, seen)
            known = min(limit, len(pages) + len(queue))
            await ctx.report_progress(len(pages), known, page["file"])
    fetched = summarise(str(target), pages, len(queue))
    if not fetched.pages and start in fetched.problems:
        raise ToolError(f"Cannot fetch {start}: {fetched.problems[start]}. Give the address of a page that is there.")
    text = TextContent(type="text", text=render(fetched))
    return CallToolResult(content=[text], structured_content=fetched.model_dump(mode="json"))
