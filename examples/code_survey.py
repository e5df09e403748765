"""Survey a source tree file by file: languages, line counts, largest files, copies, slowest files to parse.

Here: one slow tool, `survey`, that runs as a task, beside a quick one, `languages`, that does not; the functions above
the tools know nothing of MCP. Not here: near-duplicate functions (near_duplicates.py).
"""

import ast
import hashlib
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from taskmill.server import Context, TaskServer

mcp = TaskServer("Code survey")

TOP = 10
# Parsing holds Python's lock, so a larger file would delay everything else in the worker.
READ_LIMIT = 4 * 1024 * 1024
NEVER_ENTERED = frozenset({".git", ".hg", ".svn", "__pycache__"})
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SOURCE_NAME = "<surveyed>"
warnings.filterwarnings("ignore", module=SOURCE_NAME)  # other people's code warns while it is parsed


class Language(NamedTuple):
    name: str
    endings: str
    line_comments: tuple[bytes, ...] = ()
    block_comment: tuple[bytes, bytes] | None = None


LANGUAGES = (
    Language("Python", ".py .pyi .pyw", (b"#",)),
    Language("C and C++", ".c .h .cc .cpp .cxx .hh .hpp", (b"//",), (b"/*", b"*/")),
    Language("C#", ".cs", (b"//",), (b"/*", b"*/")),
    Language("CSS", ".css .scss", (), (b"/*", b"*/")),
    Language("Go", ".go", (b"//",), (b"/*", b"*/")),
    Language("HTML and XML", ".html .htm .xml .svg", (), (b"<!--", b"-->")),
    Language("Java and Kotlin", ".java .kt", (b"//",), (b"/*", b"*/")),
    Language("JavaScript", ".js .mjs .cjs .jsx", (b"//",), (b"/*", b"*/")),
    Language("JSON", ".json"),
    Language("Lua", ".lua", (b"--",)),
    Language("Prose", ".md .rst .txt"),
    Language("Ruby", ".rb", (b"#",)),
    Language("Rust", ".rs", (b"//",), (b"/*", b"*/")),
    Language("Shell", ".sh .bash .zsh", (b"#",)),
    Language("SQL", ".sql", (b"--",), (b"/*", b"*/")),
    Language("TOML, YAML, INI", ".toml .yaml .yml .ini .cfg", (b"#", b";")),
    Language("TypeScript", ".ts .tsx", (b"//",), (b"/*", b"*/")),
)
OTHER = Language("Other text", "")
BY_ENDING = {ending: language for language in LANGUAGES for ending in language.endings.split()}


class Totals(BaseModel):
    """One language, or all of them."""

    name: str
    files: int = 0
    bytes: int = 0
    code: int = 0
    comment: int = 0
    blank: int = 0


class Copies(BaseModel):
    """Copies: files that are identical, or differ only in comments, blank lines and indentation."""

    identical: bool
    bytes: int
    count: int
    paths: list[str]


class Survey(BaseModel):
    root: str
    total: Totals
    languages: list[Totals]
    largest_bytes: dict[str, float]
    slowest_parse_ms: dict[str, float]
    copies: list[Copies]
    syntax_errors: int
    cannot_parse: list[str]
    set_aside: dict[str, int]
    seconds: float


class Entry(NamedTuple):
    path: str
    shown: str
    size: int


class Measured(NamedTuple):
    entry: Entry
    problem: str = ""
    language: str = ""
    code: int = 0
    comment: int = 0
    blank: int = 0
    digest: bytes = b""
    code_digest: bytes = b""
    parse_ms: float | None = None


def printable(path: str) -> str:
    """The path as text that JSON and a terminal can carry: a name on disk may be any bytes."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def walk(root: Path, skip: frozenset[str], set_aside: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """Every regular file below `root`. Links are not followed, so a loop of them cannot occur."""
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                children = list(found)
        except OSError:
            set_aside["unreadable"] += 1
            continue
        # A virtual environment holds installed packages, not this tree's own code.
        if folder != str(root) and any(child.name == "pyvenv.cfg" for child in children):
            continue
        for child in children:
            if child.is_symlink():
                set_aside["link"] += 1
            elif child.is_dir(follow_symlinks=False) and child.name not in skip:
                folders.append(child.path)
            elif child.is_file(follow_symlinks=False):
                yield child


def list_tree(root: Path, skip: frozenset[str]) -> tuple[list[Entry], Counter[str]]:
    """The files of a tree by path, and the number of skipped files and folders, by reason.

    Raises:
        ToolError: `root` is not a folder, or may not be read.
    """
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(f"Cannot survey {printable(str(root))}: {reason}. Name a folder that can be read.") from None
    entries: list[Entry] = []
    set_aside: Counter[str] = Counter()
    for file in walk(root, skip, set_aside):
        try:
            size = file.stat(follow_symlinks=False).st_size
        except OSError:
            set_aside["unreadable"] += 1
        else:
            entries.append(Entry(file.path, printable(os.path.relpath(file.path, root)), size))
    return sorted(entries), set_aside


def measure(entry: Entry, has_twin: bool) -> Measured:
    """The counts of one file. `has_twin`: another file has this size, so a file too large to read is still hashed."""
    try:
        with open(entry.path, "rb") as file:
            if entry.size > READ_LIMIT:
                digest = hashlib.file_digest(file, "sha256").digest() if has_twin else b""
                return Measured(entry, "too large to read", digest=digest)
            data = file.read(READ_LIMIT) if entry.size else b""
    except OSError:
        return Measured(entry, "unreadable")
    digest = hashlib.sha256(data).digest()
    if b"\0" in data[:8192]:
        return Measured(entry, "not text", digest=digest)
    language = BY_ENDING.get(os.path.splitext(entry.path)[1].lower(), OTHER)
    problem, known, parse_ms = parse(data) if language.name == "Python" else ("", {}, None)
    lines: Counter[str] = Counter()
    code = hashlib.sha256()
    for kind, line in classify(data.splitlines(), language, known):
        lines[kind] += 1
        if kind == "code":
            code.update(line + b"\n")
    code_digest = code.digest() if lines["code"] else digest
    return Measured(entry, problem, language.name, **lines, digest=digest, code_digest=code_digest, parse_ms=parse_ms)


def parse(source: bytes) -> tuple[str, dict[int, str], float | None]:
    """What is wrong with a Python file ("" = nothing), what its strings say of lines, and milliseconds to parse."""
    took = []
    try:
        for _ in range(2):  # the better of two, because a garbage collection may fall into one of them
            started = time.thread_time()
            tree = ast.parse(source, SOURCE_NAME)
            took.append(time.thread_time() - started)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "syntax error", {}, None
    kinds: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            kinds |= dict.fromkeys(range(first.lineno, (first.end_lineno or first.lineno) + 1), "comment")
        elif isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno:
            for number in range(node.lineno + 1, node.end_lineno + 1):
                kinds.setdefault(number, "code")
    return "", kinds, min(took) * 1000


def classify(lines: list[bytes], language: Language, known: dict[int, str]) -> Iterator[tuple[str, bytes]]:
    """Each line as "code", "comment" or "blank", with its text stripped. `known`: the kind by line number, from 1."""
    opening, closing = language.block_comment or (b"\0", b"\0")
    inside = False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line:
            yield "blank", line
        elif inside or line.startswith(opening):
            inside = closing not in (line if inside else line[len(opening) :])
            yield "comment", line
        else:
            yield known.get(number) or ("comment" if line.startswith(language.line_comments) else "code"), line


def totals(name: str, measured: Iterable[Measured]) -> Totals:
    total = Totals(name=name)
    for one in measured:
        total.files += 1
        total.bytes += one.entry.size
        total.code += one.code
        total.comment += one.comment
        total.blank += one.blank
    return total


def copies(measured: Iterable[Measured]) -> list[Copies]:
    """Groups of files that are alike, the most wasteful first. Empty files are no copies of each other."""
    alike: defaultdict[bytes, list[Measured]] = defaultdict(list)
    for one in measured:
        if one.entry.size and one.digest:
            alike[one.code_digest or one.digest].append(one)
    groups = [
        Copies(
            identical=len({one.digest for one in group}) == 1,
            bytes=max(one.entry.size for one in group),
            count=len(group),
            paths=[one.entry.shown for one in group[:3]],
        )
        for group in alike.values()
        if len(group) > 1
    ]
    return sorted(groups, key=lambda group: group.bytes * (group.count - 1), reverse=True)


def top(figures: Iterable[tuple[str, float]]) -> dict[str, float]:
    ranked = sorted(figures, key=lambda pair: (-pair[1], pair[0]))
    return {path: round(figure, 1) for path, figure in ranked[:TOP]}


def summarise(root: str, measured: list[Measured], set_aside: Counter[str], seconds: float) -> Survey:
    """The survey of the whole tree: ten rows a list, however large the tree."""
    by_language: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        by_language[one.language or one.problem].append(one)
    languages = [totals(name, group) for name, group in by_language.items()]
    broken = [one.entry.shown for one in measured if one.problem == "syntax error"]
    return Survey(
        root=printable(root),
        total=totals("total", measured),
        languages=sorted(languages, key=lambda row: (-row.code, -row.bytes))[:TOP],
        largest_bytes=top((one.entry.shown, one.entry.size) for one in measured),
        slowest_parse_ms=top((one.entry.shown, one.parse_ms) for one in measured if one.parse_ms is not None),
        copies=copies(measured)[:TOP],
        syntax_errors=len(broken),
        cannot_parse=broken[:TOP],
        set_aside=dict(set_aside + Counter(one.problem for one in measured if one.problem and not one.language)),
        seconds=round(seconds, 1),
    )


def render(survey: Survey) -> str:
    """The survey as text for a terminal."""
    total = survey.total
    out = [f"{survey.root}: {total.files:,} files, {total.bytes:,} bytes, surveyed in {survey.seconds:,} s", ""]
    out.append(f"{'language':<18}{'files':>9}{'code':>12}{'comment':>10}{'blank':>10}{'bytes':>14}")
    out += [
        f"{row.name:<18}{row.files:>9,}{row.code:>12,}{row.comment:>10,}{row.blank:>10,}{row.bytes:>14,}"
        for row in [*survey.languages, total]
    ]
    for title, figures in (("largest, bytes", survey.largest_bytes), ("slowest to parse, ms", survey.slowest_parse_ms)):
        out += ["", title, *(f"{figure:>14,.10g}  {path}" for path, figure in figures.items())]
    out += ["", "copies" if survey.copies else "no copies"]
    for group in survey.copies:
        alike = "identical" if group.identical else "same code"
        more = f" and {group.count - len(group.paths)} more" if group.count > len(group.paths) else ""
        out.append(f"{group.bytes:>14,}  {alike}, {group.count} files: {', '.join(group.paths)}{more}")
    aside = ", ".join(f"{count:,} {reason}" for reason, count in sorted(survey.set_aside.items())) or "nothing"
    out += ["", f"syntax errors: {survey.syntax_errors:,}", *(f"{'':16}{path}" for path in survey.cannot_parse)]
    out += ["", f"set aside: {aside}"]
    return "\n".join(out)


@mcp.tool()
def languages() -> dict[str, str]:
    """The languages that a survey recognises, with their file endings."""
    return {language.name: language.endings for language in LANGUAGES}


@mcp.tool(task=True)
async def survey(
    path: str, ctx: Context, skip: str = "site-packages,node_modules"
) -> Annotated[CallToolResult, Survey]:
    """Survey the source tree at `path`, leaving out folders named in `skip` (names with commas between them)."""
    started = time.monotonic()
    root = Path(path).expanduser().absolute()
    skipped = NEVER_ENTERED | {name.strip() for name in skip.split(",")}
    entries, set_aside = await to_thread.run_sync(list_tree, root, skipped)
    sizes = Counter(entry.size for entry in entries)
    measured: list[Measured] = []
    for number, entry in enumerate(entries, 1):
        measured.append(await to_thread.run_sync(measure, entry, sizes[entry.size] > 1))
        await ctx.report_progress(number, len(entries), entry.shown)
    result = await to_thread.run_sync(summarise, str(root), measured, set_aside, time.monotonic() - started)
    text = TextContent(type="text", text=render(result))
    return CallToolResult(content=[text], structured_content=result.model_dump(mode="json"))
