"""docs/architecture.md is true: its generated parts are up to date, and each file and function in it exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.support import architecture_page
from tests.support.room_imports import ROOMS, fail_on, folders_of_rooms

ROOT = Path(__file__).parents[2]
TEXT = architecture_page.PAGE.read_text()


def test_the_drawing_is_made_from_the_imports() -> None:
    assert architecture_page.DRAWING.read_text() == architecture_page.drawing(), "run scripts/architecture"


def test_the_table_of_keys_is_made_from_the_file_of_keys() -> None:
    assert architecture_page.page(TEXT) == TEXT, "run scripts/architecture"


def test_every_function_that_is_named_exists() -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|lua)): ([\w.]+)`", TEXT)
    assert len(named) > 80
    gone = [f"{file}: {name}" for file, name in named if name not in names_in(ROOT / file)]
    fail_on(gone, "docs/architecture.md names them, and they are gone: change the page with the code.")


def test_every_path_that_is_named_exists() -> None:
    rooms = "|".join([*ROOMS, "tests", "docs", "scripts"])
    named = re.findall(rf"`((?:{rooms})/[\w./-]*)(?:: [\w.]+)?`", TEXT)
    gone = [name for name in named if not (ROOT / name).exists()]
    fail_on(gone, "docs/architecture.md names them, and they are gone: change the page with the code.")


def test_every_sub_room_is_described_once() -> None:
    described = re.findall(r"^\| `(\w+/\w+)/` \|", TEXT, re.MULTILINE)
    assert sorted(described) == sorted(folder for folder in folders_of_rooms() if "/" in folder)


def test_every_room_is_described_once() -> None:
    assert sorted(re.findall(r"^\| `(\w+)/` \|", TEXT, re.MULTILINE)) == sorted(ROOMS)


def test_every_invariant_has_its_scripts_and_tests() -> None:
    rows = re.findall(r"^\| I(\d+) \| [^|]+ \| `[^|]+` \| `tests/[^|]+` \|$", TEXT, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 15)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x = 1\ny: int = 2\n\nclass A:\n    B = 1\n\n    def c(self) -> None: ...\n", {"x", "y", "A", "A.B", "A.c"}),
        ("async def f() -> None:\n    def g() -> None: ...\n", {"f"}),
    ],
)
def test_names_are_read_from_the_source(text: str, names: set[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    assert names_in(tmp_path / "a.py") == names


def names_in(file: Path) -> set[str]:
    """What a file defines: names at its top and, as `Class.name`, in its classes. Of a Lua script its functions."""
    text = file.read_text() if file.exists() else ""
    if file.suffix == ".lua":
        return set(re.findall(r"^local function (\w+)", text, re.MULTILINE))
    return set(defined(ast.parse(text).body))


def defined(body: list[ast.stmt], prefix: str = "") -> list[str]:
    names: list[str] = []
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.append(prefix + node.name)
            case ast.ClassDef():
                names += [prefix + node.name, *defined(node.body, f"{prefix}{node.name}.")]
            case ast.Assign():
                names += [prefix + target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(prefix + name)
            case _:
                pass
    return names
