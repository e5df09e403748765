"""Have an agent review the pages of a folder, eight at a time. The next call takes those that are new or changed.

Here: the tool and what its model may do. `models/scripted.py` is a model that needs no key. Not here: writing files.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from taskmill.server import Context, StateUnavailable, TaskConfig, TaskServer

mcp = TaskServer("Page review")

PAGES, LETTERS, STEPS = 8, 20_000, 20
MOST = 500
"""Pages of a folder that are looked at: what is kept of them has to fit into one value."""
ROLE = (
    "You review pages. Ask for the list of pages, read each of them once, and then write one line a page: its name, "
    "and what a reader may not understand."
)


class Review(BaseModel):
    text: str
    pages: list[str]
    """Those that were reviewed now."""
    left: int
    """How many are to be reviewed: by the next call."""
    answers: int
    """Of the model."""


def versions(folder: str) -> dict[str, str]:
    """Digest by name of every page."""
    return {page.name: sha256(page.read_bytes()).hexdigest()[:16] for page in sorted(Path(folder).glob("*.md"))[:MOST]}


def key(folder: str) -> str:
    """Under what is kept which pages of a folder were reviewed."""
    return f"reviewed {sha256(folder.encode()).hexdigest()[:16]}"


async def recall(folder: str, ctx: Context) -> dict[str, str]:
    """What earlier calls have reviewed: the version of each page. A caller who can keep nothing has none."""
    try:
        known: dict[str, str] = await ctx.get_state(key(folder), {})
    except StateUnavailable:
        return {}
    return known


async def remember(folder: str, reviewed: dict[str, Any], ctx: Context) -> None:
    try:
        await ctx.set_state(key(folder), reviewed)
    except StateUnavailable:
        await ctx.report_progress(message="this caller keeps nothing, so the next call begins again")


@mcp.tool(task=TaskConfig(retries=3, backoff=5))
async def review(folder: str, ctx: Context) -> Review:
    """Have a model review the pages (*.md) of a folder."""
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise ToolError(f"{path} is no folder. Name one that can be read.")
    # Steps: the folder, and what another call keeps, may change before another worker takes over.
    found: dict[str, str] = await ctx.step("versions", versions, str(path))
    known = await ctx.step("recall", recall, str(path), ctx)
    due = [name for name, version in found.items() if known.get(name) != version]
    now = due[:PAGES]
    if not now:
        return Review(text="No page is new or changed.", pages=[], left=0, answers=0)

    def list_pages() -> str:
        """Names of the pages to review, one a line."""
        return "\n".join(now)

    async def read_page(name: str, ctx: Context) -> str:
        """The text of a page."""
        if name not in now:
            raise ToolError(f"{name} is not in the list of pages.")
        await ctx.report_progress(now.index(name), len(now), name)
        return (path / name).read_text(encoding="utf-8", errors="replace")[:LETTERS]

    end = await ctx.sample("Review the pages.", tools=[list_pages, read_page], system=ROLE, max_steps=STEPS)
    # No step: a worker that takes over sets the same values again.
    kept = {name: version for name, version in known.items() if name in found}
    await remember(str(path), kept | {name: found[name] for name in now}, ctx)
    return Review(text=end.text, pages=now, left=len(due) - len(now), answers=end.steps)
