"""Plain words in comments, docstrings and pages: a reader who learnt English as a second language follows them.

Looks at what the rooms say of themselves (comments, docstrings, the comments of Lua scripts) and at the pages. Not at
names, error texts or tests.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.room_imports import ROOMS, fail_on, modules

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])

# The word, and what to write for it.
BANNED = {
    r"nobody('s)?": "no one, no client, no worker",
    r"somebody('s)?": "who it is: a client, another worker, a person",
    r"anybody('s)?": "any client, any caller",
    r"everybody('s)?": "all callers, all principals together",
    r"whoever": "the one it is: the caller, the process that",
    r"stir(s|red|ring)?": "wake",
    r"furnish(es|ed)?": "add, give",
    r"farewell": "last message",
    r"hasten(s|ed)?": "speed up",
    r"heed(s|ed)?": "follow, obey",
    r"hears?|heard|hearing": "receive",
    r"told": "reported, sent, answered, notified",
    r"henceforth|hitherto|thereby|amid|lest|anew|afresh|behold|perish(es|ed)?": "a word of everyday English",
    r"patience|patient": "call timeout, or wait",
    r"desk|station|teller|bell|crew|cell|switchboard|beats?|outlook|lister|noticeboard": "the word of docs/glossary.md",
}
# Places that are not rewritten yet, by room. The figures only go down; an entry goes with its last place.
LEFT_OVER: dict[str, int] = {}

PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b", re.IGNORECASE)


def found_in(text: str) -> list[str]:
    return [match[0] for match in PATTERN.finditer(text)]


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Comments and docstrings, those of fields too, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for number, line in enumerate(node.value.value.splitlines()):
                yield node.lineno + number, line


def without_code(line: str) -> str:
    """A line without what stands in backticks: names are not prose."""
    return re.sub(r"`[^`]*`", "", line)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_speaks_plainly_of_itself(room: str) -> None:
    said = [(m.path, number, line) for m in modules(room) for number, line in prose_of_python(m.text)]
    for path in sorted((ROOT / room).rglob("*.lua")):
        said += [
            (str(path.relative_to(ROOT)), number, line.partition("--")[2])
            for number, line in enumerate(path.read_text().splitlines(), start=1)
        ]
    places = [f"{path}:{number}: {word}" for path, number, line in said for word in found_in(without_code(line))]
    if len(places) > LEFT_OVER.get(room, 0):
        fail_on(places, advice())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_speaks_plainly(page: Path) -> None:
    text = page.read_text()
    for apart in (r"```.*?```", r"<!-- made from .*?<!-- end -->"):  # what is generated is held where it comes from
        text = re.sub(apart, lambda part: "\n" * part[0].count("\n"), text, flags=re.DOTALL)
    lines = enumerate(text.splitlines(), start=1)
    fail_on(
        [f"{page.name}:{number}: {word}" for number, line in lines for word in found_in(without_code(line))], advice()
    )


def advice() -> str:
    return "Write instead:\n" + "\n".join(f"  {word}: {better}" for word, better in BANNED.items())
