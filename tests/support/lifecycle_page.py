"""The diagram of docs/lifecycle.md, made from the engine's table of moves. Run it to write the page."""

from pathlib import Path

from taskmill.engine.status import LEGAL_MOVES, TERMINAL

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
START, END = "<!-- made from engine/status.py by scripts/lifecycle -->", "<!-- end -->"
QUIET = {"progress", "answer"}
"""Moves that leave the state as it is."""


def diagram() -> str:
    """A Mermaid state diagram of every move that changes the state."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for move, (sources, target) in LEGAL_MOVES.items():
        if move.value in QUIET or target is None:
            continue
        if not sources:
            lines.append(f"    [*] --> {target}: {move}")
        lines += [f"    {source} --> {target}: {move}" for source in sorted(sources)]
    lines += [f"    {status} --> [*]: retention" for status in sorted(TERMINAL)]
    return "\n".join([*lines, "```"])


def page(text: str) -> str:
    """`text` with the diagram between its marks."""
    head, rest = text.split(START)
    return f"{head}{START}\n{diagram()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
