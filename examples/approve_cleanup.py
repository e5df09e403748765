"""Find what a build or a merge left behind, ask, and delete: a question in the middle of a task.

Here: one task tool that waits for a person's answer, and the functions that find and delete. Not here: any deletion
that was not approved; without `dry_run=false` nothing is asked and nothing is touched.
"""

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NamedTuple

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from taskmill.server import Context, TaskServer

mcp = TaskServer("Approve cleanup")

PATTERNS = ("*.pyc", "*.pyo", "*.orig", "*.rej")
# A repository's own folder holds empty folders that it needs.
NEVER_ENTERED = frozenset({".git", ".hg", ".svn"})
SHOWN = 20
APPROVED = "approved"


class Confirm(BaseModel):
    confirm: bool = Field(description="Delete them now; this cannot be undone")


class Leftovers(NamedTuple):
    """What may be deleted, as paths below the root; inner folders come before outer ones."""

    files: list[str]
    folders: list[str]
    bytes: int


class Cleanup(BaseModel):
    root: str
    found: str
    some: list[str]
    answer: str
    deleted: int
    failed: list[str]


def printable(path: str) -> str:
    """The path as text that JSON and a terminal can carry: a name on disk may be any bytes."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def find_leftovers(root: Path) -> Leftovers:
    """Leftover files below `root`, and the folders that hold nothing else. Links and folders with links are left alone.

    Raises:
        ToolError: `root` is not a folder, or may not be read.
    """
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(
            f"Cannot look through {printable(str(root))}: {reason}. Name a folder that can be read."
        ) from None
    files: list[str] = []
    folders: dict[str, None] = {}
    size = 0
    for folder, inner, names in os.walk(root, topdown=False):
        if NEVER_ENTERED.intersection(Path(folder).relative_to(root).parts):
            continue
        leftover = [os.path.join(folder, name) for name in names if is_leftover(folder, name)]
        files += leftover
        size += sum(os.path.getsize(path) for path in leftover)
        inner_too = all(os.path.join(folder, name) in folders for name in inner)
        if len(leftover) == len(names) and inner_too and folder != str(root):
            folders[folder] = None
    below = [[os.path.relpath(path, root) for path in paths] for paths in (sorted(files), folders)]
    return Leftovers(files=below[0], folders=below[1], bytes=size)


def is_leftover(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    return any(fnmatch(name, pattern) for pattern in PATTERNS) and os.path.isfile(path) and not os.path.islink(path)


def delete(root: Path, name: str) -> bool:
    """Delete one file or empty folder below `root`; True if it no longer exists, also if it was deleted before."""
    path = root / name
    try:
        if not path.parent.resolve().is_relative_to(root.resolve()):
            return False  # after the question, a folder on the way was replaced by a link
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def describe(found: Leftovers) -> str:
    """A summary in a few words: "12 files and 3 folders, 40,960 bytes"."""
    return f"{count(len(found.files), 'file')} and {count(len(found.folders), 'folder')}, {count(found.bytes, 'byte')}"


def summarise(root: Path, found: Leftovers, answer: str, failed: list[str]) -> Cleanup:
    names = [*found.files, *found.folders]
    return Cleanup(
        root=printable(str(root)),
        found=describe(found),
        some=[printable(name) for name in names[:SHOWN]],
        answer=answer,
        deleted=len(names) - len(failed) if answer == APPROVED else 0,
        failed=[printable(name) for name in failed[:SHOWN]],
    )


def render(cleanup: Cleanup) -> str:
    """The result as text for a terminal."""
    out = [f"{cleanup.root}: found {cleanup.found}", *(f"    {name}" for name in cleanup.some)]
    out += ["    ..."] * (len(cleanup.some) == SHOWN)
    out.append(f"{cleanup.answer}; deleted {cleanup.deleted:,}")
    return "\n".join([*out, *(f"    could not delete {name}" for name in cleanup.failed)])


@mcp.tool(task=True)
async def approve_cleanup(path: str, ctx: Context, dry_run: bool = True) -> Annotated[CallToolResult, Cleanup]:
    """Find leftovers below `path` (*.pyc, *.orig, ..., empty folders); unless `dry_run`, ask, and then delete them."""
    root = Path(path).expanduser().absolute()
    found = await to_thread.run_sync(find_leftovers, root)
    names = [*found.files, *found.folders]
    answer, failed = "dry run, nothing asked", list[str]()
    if names and not dry_run:
        # While a question waits the task may leave memory, and the answer makes it run again from the top. If the tree
        # has changed by then, this is another question, and the engine fails the task: nothing unapproved is deleted.
        result = await ctx.elicit(f"Delete {describe(found)} below {root}?", Confirm)
        answer = APPROVED if result.action == "accept" and result.data.confirm else "not approved"
    if answer == APPROVED:
        for number, name in enumerate(names, 1):
            failed += [] if await to_thread.run_sync(delete, root, name) else [name]
            await ctx.report_progress(number, len(names), printable(name))
    cleanup = summarise(root, found, answer, failed)
    text = TextContent(type="text", text=render(cleanup))
    return CallToolResult(content=[text], structured_content=cleanup.model_dump(mode="json"))
