"""Find near-duplicate functions in a tree of Python source: minutes of real work, as a plain function.

Here: parse, normalise, shingle, MinHash, banded search, exact comparison, grouping; and one task tool that runs in a
thread and stops when it is cancelled. Not here: whole-file copies and line counts (code_survey.py).
"""

import ast
import os
import random
import sysconfig
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Annotated, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Near-duplicate functions")

TOP = 15
FILE_LIMIT = 2 * 1024 * 1024
SHINGLE = 6
# With eight rows a band, a pair 0.75 alike shares one band in ten; effort adds bands, so that fewer pairs share none.
ROWS = 8
BANDS_PER_EFFORT = 10
PRIME = (1 << 31) - 1
# Members of one bucket are mostly one family; beyond this many, each is compared with the first few only.
BUCKET_LIMIT = 40
PARSE_PERCENT, COMPARE_PERCENT = 12, 98
SOURCE_NAME = "<searched>"
SKIPPED = frozenset({".git", "__pycache__", "site-packages", "node_modules"})
warnings.filterwarnings("ignore", module=SOURCE_NAME)  # other people's code warns while it is parsed

Report = Callable[[float, str], None]
"""Called with the percentage and the present step. It raises to stop the search."""


class Function(NamedTuple):
    where: str
    name: str
    first_line: int
    last_line: int
    lines: int
    shingles: frozenset[int]


class Member(BaseModel):
    where: str
    name: str
    lines: int


class Family(BaseModel):
    """Functions so similar that one could replace them."""

    count: int
    least_similarity: float
    spare_lines: int
    members: list[Member]


class Findings(BaseModel):
    root: str
    files: int
    not_parsed: int
    functions: int
    permutations: int
    candidates: int
    pairs: int
    families_found: int
    families: list[Family]


def printable(path: str) -> str:
    """The path as text that JSON and a terminal can carry: a name on disk may be any bytes."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def python_files(root: Path) -> list[str]:
    """The Python files below `root`, by path; links are not followed.

    Raises:
        ToolError: `root` is not a folder, or may not be read.
    """
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(f"Cannot search {printable(str(root))}: {reason}. Name a folder that can be read.") from None
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    return sorted(path for path in found if os.path.isfile(path) and not os.path.islink(path))


def normalise(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """What a function does, as tokens: local names become one word, constants their types.

    Docstring, annotations and decorators leave no trace; attribute, keyword and global names carry meaning and stay.
    """
    local = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    documented = ast.get_docstring(function, clean=False) is not None
    pending: list[ast.AST] = [*reversed(function.body[documented:]), function.args]
    while pending:
        node = pending.pop()
        yield type(node).__name__
        match node:
            case ast.Name(id=name):
                yield "local" if name in local else name
            case ast.Constant(value=value):
                yield type(value).__name__
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
        left_out = getattr(node, "annotation", None)
        children = [child for child in ast.iter_child_nodes(node) if child is not left_out]
        pending += reversed([child for child in children if not isinstance(child, ast.expr_context)])


def shingles(tokens: Sequence[str]) -> frozenset[int]:
    """The set of runs of `SHINGLE` tokens, each as a number below `PRIME`, the same in every process."""
    return frozenset(
        zlib.crc32(" ".join(tokens[i : i + SHINGLE]).encode("utf-8", "replace")) % PRIME
        for i in range(len(tokens) - SHINGLE + 1)
    )


def functions_of(path: str, root: Path, smallest: int) -> list[Function]:
    """The functions in one file that have at least `smallest` lines of code; a long string counts as one line.

    Raises:
        OSError, SyntaxError, ValueError, RecursionError, MemoryError: the file cannot be read or parsed.
    """
    with open(path, "rb") as file:
        source = file.read(FILE_LIMIT + 1)
    if len(source) > FILE_LIMIT:
        raise ValueError("too large to parse")
    where = printable(os.path.relpath(path, root))
    found = []
    for node in ast.walk(ast.parse(source, SOURCE_NAME)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = len({child.lineno for child in ast.walk(node) if isinstance(child, ast.stmt | ast.expr)})
            if lines >= smallest:
                last = node.end_lineno or node.lineno
                found.append(Function(where, node.name, node.lineno, last, lines, shingles(list(normalise(node)))))
    return [function for function in found if function.shingles]


def parse_tree(root: Path, smallest: int, report: Report) -> tuple[list[Function], int, int]:
    """The functions of a tree, the number of Python files, and how many of those could not be read or parsed."""
    paths = python_files(root)
    functions: list[Function] = []
    failed = 0
    for number, path in enumerate(paths):
        try:
            functions += functions_of(path, root, smallest)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            failed += 1
        report(PARSE_PERCENT * (number + 1) / len(paths), f"parsed {number + 1:,} of {len(paths):,} files")
    return functions, len(paths), failed


def candidates(sets: Sequence[frozenset[int]], bands: int, report: Report) -> set[tuple[int, int]]:
    """Pairs of sets that agree on the smallest number under every permutation of at least one band.

    One band is in memory at a time, so effort costs time and not memory. The permutations are the same in every run.
    """
    source = random.Random(1)
    pairs: set[tuple[int, int]] = set()
    for band in range(bands):
        permutations = [(source.randrange(1, PRIME), source.randrange(PRIME)) for _ in range(ROWS)]
        buckets: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, members in enumerate(sets):
            key = tuple(min([(a * x + b) % PRIME for x in members]) for a, b in permutations)
            buckets[key].append(number)
            if number % 50 == 0:
                done = (band + number / len(sets)) / bands
                report(PARSE_PERCENT + (COMPARE_PERCENT - PARSE_PERCENT) * done, f"band {band + 1} of {bands}")
        for bucket in buckets.values():
            pairs.update(combinations(bucket[:BUCKET_LIMIT], 2))
            pairs.update((bucket[0], other) for other in bucket[BUCKET_LIMIT:])
    return pairs


def jaccard(first: frozenset[int], second: frozenset[int]) -> float:
    """Jaccard: shared members over all members, 0 to 1."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def nested(first: Function, second: Function) -> bool:
    """Whether one of the two is written inside the other: such a pair is no finding."""
    same_file = first.where == second.where
    return same_file and first.first_line <= second.last_line and second.first_line <= first.last_line


def families(groups: Sequence[Sequence[Function]], alike: dict[tuple[int, int], float]) -> list[Family]:
    """Groups of equal functions joined by their pairs, the one with most lines to spare first."""
    leader = list(range(len(groups)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = number = leader[leader[number]]
        return number

    for first, second in alike:
        leader[find(first)] = find(second)
    least = [1.0] * len(groups)
    for (first, _), value in alike.items():
        least[find(first)] = min(least[find(first)], value)
    members: defaultdict[int, list[Function]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[find(number)] += group
    found = [
        Family(
            count=len(family),
            least_similarity=round(least[number], 2),
            spare_lines=sum(member.lines for member in family) - max(member.lines for member in family),
            members=[
                Member(where=f"{one.where}:{one.first_line}", name=one.name, lines=one.lines) for one in family[:4]
            ],
        )
        for number, family in members.items()
        if len(family) > 1
    ]
    return sorted(found, key=lambda family: family.spare_lines, reverse=True)


def search(root: Path, threshold: float, smallest: int, effort: int, report: Report) -> Findings:
    """Every family of functions with `smallest` lines or more whose pairs reach `threshold`."""
    functions, files, failed = parse_tree(root, smallest, report)
    equal: defaultdict[frozenset[int], list[Function]] = defaultdict(list)
    for function in functions:
        equal[function.shingles].append(function)
    sets, groups = list(equal), list(equal.values())
    bands = BANDS_PER_EFFORT * effort
    pairs = candidates(sets, bands, report)
    alike: dict[tuple[int, int], float] = {}
    for number, (first, second) in enumerate(sorted(pairs)):
        value = jaccard(sets[first], sets[second])
        if value >= threshold and not nested(groups[first][0], groups[second][0]):
            alike[first, second] = value
        if number % 500 == 0:
            percent = COMPARE_PERCENT + (100 - COMPARE_PERCENT) * number / len(pairs)
            report(percent, f"compared {number:,} of {len(pairs):,} pairs")
    found = families(groups, alike)
    return Findings(
        root=str(root),
        files=files,
        not_parsed=failed,
        functions=len(functions),
        permutations=bands * ROWS,
        candidates=len(pairs),
        pairs=len(alike),
        families_found=len(found),
        families=found[:TOP],
    )


def render(findings: Findings) -> str:
    """The findings as text for a terminal."""
    out = [
        f"{findings.root}: {findings.functions:,} functions in {findings.files:,} files",
        f"({findings.not_parsed:,} could not be parsed), {findings.permutations:,} permutations,",
        f"{findings.candidates:,} candidate pairs, {findings.pairs:,} near-duplicate pairs,",
        f"{findings.families_found:,} families; those with most lines to spare:",
    ]
    for family in findings.families:
        alike = "equal" if family.least_similarity == 1 else f"at least {family.least_similarity:.0%} alike"
        out += ["", f"{family.count} functions, {alike}, {family.spare_lines:,} lines to spare"]
        out += [f"    {member.where} {member.name} ({member.lines} lines)" for member in family.members]
        out += [f"    and {family.count - len(family.members)} more"] * (family.count > len(family.members))
    return "\n".join(out)


@mcp.tool(task=TaskConfig(timeout=timedelta(hours=1), retention=timedelta(days=1)))
def near_duplicates(
    ctx: Context,
    path: str = "",
    similarity: Annotated[float, Field(ge=0.5, le=1)] = 0.75,
    smallest: Annotated[int, Field(ge=3)] = 6,
    effort: Annotated[int, Field(ge=1, le=20)] = 6,
) -> Annotated[CallToolResult, Findings]:
    """Find near-duplicate functions of `smallest` lines or more below `path` (empty = Python's standard library).

    More `effort` misses fewer pairs and takes longer: of the pairs 0.75 alike, the default misses one in 500 and an
    effort of 1 misses one in three.
    """

    def report(percent: float, message: str) -> None:
        if ctx.cancelled:
            raise ToolError("The search was cancelled.")
        ctx.report_progress(percent, 100, message)

    root = Path(path).expanduser().absolute() if path else Path(sysconfig.get_path("stdlib"))
    findings = search(root, similarity, smallest, effort, report)
    text = TextContent(type="text", text=render(findings))
    return CallToolResult(content=[text], structured_content=findings.model_dump(mode="json"))
