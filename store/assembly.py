"""Puts the text of a script together: what it needs of the shared texts, the keys in their places, the table of moves.

A script runs from its first line at every call. Functions and tables that it does not use, and a function call for
every key, would cost Redis more than the commands do.
"""

import re
from collections.abc import Iterable

from taskmill.engine.status import LEGAL_MOVES
from taskmill.store.formats.keys import Keys

__all__ = ["assembled", "moves_table"]

_COMMENT = re.compile(r"--[^\n]*")
_DEFINED = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)


def assembled(script: str, shared: Iterable[str], keys: Keys) -> str:
    """The script behind those blocks of the shared texts that it needs. Blank lines part the blocks of a text."""
    blocks = [block for text in (moves_table(), *shared) for block in text.split("\n\n")]
    kept = [keys.placed(script)]
    words = _words(script)
    for block in reversed(blocks):
        if not words.isdisjoint(_DEFINED.findall(block)):
            kept.append(keys.placed(block))
            words |= _words(block)
    return "\n\n".join(reversed(kept))


def moves_table() -> str:
    """The engine's table of moves: `FROM[move]`, the states it is legal in between blanks, and `TO[move]`, a state."""
    sources = ", ".join(
        f"{move} = ' {' '.join(sorted(source))} '" for move, (source, _) in LEGAL_MOVES.items() if source
    )
    targets = ", ".join(f"{move} = '{target}'" for move, (_, target) in LEGAL_MOVES.items() if target)
    return f"local FROM = {{ {sources} }}\n\nlocal TO = {{ {targets} }}\n"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", _COMMENT.sub("", text)))
