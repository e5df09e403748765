"""What is generated on docs/architecture.md: the drawing, from the real imports, and the table of keys, from
`store/formats/keys.py`. Run it to write both.

The words of the page are written by hand; `tests/docs/test_architecture.py` compares the names in them with the code.
"""

import ast
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from tests.support.room_imports import (
    AGAINST_THE_DIRECTION,
    ROOMS,
    imported_room,
    imports,
    modules,
    part_of,
    sub_room_imports,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "architecture.svg"
START, END = "<!-- made from store/formats/keys.py by scripts/architecture -->", "<!-- end -->"

Graph = Mapping[str, set[str]]

WIDTH, MARGIN, GAP, ROW = 960, 16, 12, 30
"""Of the drawing, in pixels; ROW is the height of a box with its distance to the next."""
LETTER = 7.2
"""Width of a letter, in pixels, rounded up."""
HEAD = 30
"""Height of a room's own line."""


def page(text: str) -> str:
    """`text` with the table of keys between its marks."""
    head, rest = text.split(START)
    return f"{head}{START}\n{keys_table()}\n{END}{rest.split(END)[1]}"


def keys_table() -> str:
    """The table in the docstring of keys.py, with each key as code: in Markdown `<id>` is a tag."""
    docstring = ast.get_docstring(ast.parse((ROOT / "store/formats/keys.py").read_text())) or ""
    head, rule, *rows = [line for line in docstring.splitlines() if line.startswith("|")]
    return "\n".join([head, rule, *(_with_code(row) for row in rows)])


def _with_code(row: str) -> str:
    key, rest = row[2:].split(" | ", 1)
    return f"| `{key}` | {rest}"


def drawing() -> str:
    """Rooms and their sub-rooms as SVG. What stands higher imports what stands lower."""
    levels = layers({room: imported_rooms(room) for room in ROOMS})[::-1]
    top, drawn = MARGIN, []
    for rooms, below in zip(levels, [*levels[1:], []], strict=True):
        contents = {room: rows_of(room, _inner_width(len(rooms))) for room in rooms}
        height = HEAD + max(map(len, contents.values())) * ROW
        for room, left, width in zip(rooms, *_places(len(rooms)), strict=True):
            drawn += _room(room, contents[room], left, top, width, height)
        top += height
        if below:
            lefts, widths = _places(max(len(rooms), len(below)))
            drawn += [_arrow(left + width // 2, top) for left, width in zip(lefts, widths, strict=True)]
            top += 2 * GAP
    return "\n".join([*_opening(top + MARGIN), *drawn, "</svg>", ""])


def _places(rooms: int) -> tuple[list[int], list[int]]:
    """Left edges and widths of rooms that stand side by side."""
    width = _inner_width(rooms) + 2 * GAP
    return [MARGIN + at * (width + GAP) for at in range(rooms)], [width] * rooms


def imported_rooms(room: str) -> set[str]:
    """The other rooms that modules of a room import."""
    found = {imported_room(base, name) for module in modules(room) for _, base, name in imports(module)}
    return {other for other in found if other} - {room}


def parts_of(room: str) -> dict[str, set[str]]:
    """Each part of a room with the parts it imports, without the imports that are against the direction."""
    return {
        part: {reached for reached in row if f"{room}: {part} -> {reached}" not in AGAINST_THE_DIRECTION}
        for part, row in sub_room_imports(room).items()
    }


def layers(graph: Graph) -> list[list[str]]:
    """The names from the lowest layer up: each stands above everything that it imports."""
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((depth_of(reached) for reached in graph[name]), default=-1)
        return depth[name]

    for name in graph:
        depth_of(name)
    return [sorted(name for name in graph if depth[name] == level) for level in range(max(depth.values()) + 1)]


def rows_of(room: str, width: float) -> list[list[str]]:
    """The labels of a room's boxes, row by row from the top."""
    rows: list[list[str]] = []
    for names in reversed(layers(parts_of(room))):
        labels = [label for name in names for label in _labels(room, name)]
        rows += _wrapped(labels, width)
    return rows


def _labels(room: str, part: str) -> list[str]:
    """What stands in the drawing for a part: the modules beside the sub-rooms are named one by one."""
    if part == ".":
        paths = [module.path for module in modules(room) if part_of(module) == "." and module.text.strip()]
        return [name for path in paths if (name := path.rsplit("/", 1)[1]) != "__init__.py"]
    return [part if part.endswith(".py") else f"{part}/"]


def _wrapped(labels: Iterable[str], width: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    for label in labels:
        if rows[-1] and sum(map(_box_width, [*rows[-1], label])) + GAP * len(rows[-1]) > width:
            rows.append([])
        rows[-1].append(label)
    return rows


def _inner_width(rooms: int) -> int:
    return (WIDTH - 2 * MARGIN - (rooms - 1) * GAP) // rooms - 2 * GAP


def _box_width(label: str) -> int:
    return round(len(label) * LETTER) + 14


def _opening(height: int) -> list[str]:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="ui-monospace, monospace" font-size="12">',
        "<title>The rooms of Taskmill and their sub-rooms; what stands higher imports what stands lower</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]


def _room(room: str, rows: list[list[str]], left: int, top: int, width: int, height: int) -> list[str]:
    drawn = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="#f4f6f8" stroke="#57606a"/>',
        f'<text x="{left + GAP}" y="{top + 20}" font-size="14" font-weight="bold" fill="#24292f">{room}/</text>',
    ]
    for number, row in enumerate(rows):
        x, y = left + GAP, top + HEAD + number * ROW
        for label in row:
            is_folder = label.endswith("/")
            drawn.append(
                f'<rect x="{x}" y="{y}" width="{_box_width(label)}" height="{ROW - 8}" rx="4"'
                f' fill="{"#dbeafe" if is_folder else "#ffffff"}" stroke="#8c959f"/>'
            )
            drawn.append(f'<text x="{x + 7}" y="{y + 15}" fill="#24292f">{escape(label)}</text>')
            x += _box_width(label) + GAP
    return drawn


def _arrow(x: int, y: int) -> str:
    """From the lower edge of a room to the one below it."""
    end = y + 2 * GAP
    points = f"{x - 4},{end - 7} {x + 4},{end - 7} {x},{end}"
    return f'<g stroke="#57606a" fill="#57606a"><path d="M{x} {y}V{end - 7}"/><polygon points="{points}"/></g>'


if __name__ == "__main__":
    DRAWING.write_text(drawing())
    PAGE.write_text(page(PAGE.read_text()))
