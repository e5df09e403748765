"""Which source a command that is for development runs: the file, and for `run` and `call` this very start of it.

Such commands give it to their children with `--source`: server and worker of one file find each other, and no worker of
another file, or of another version of this one, gets their tasks. Imports nothing of the protocol, for a quick `call`.
"""

import secrets
from pathlib import Path

from taskmill.store.formats.queue_names import source_of

__all__ = ["source_of_file", "source_of_stack"]


def source_of_file(target: str) -> str:
    """The source of all who develop this file, as a command line names it, from wherever they start."""
    location, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    path = Path(location)
    place = str(path.resolve()) if path.is_file() else f"{Path.cwd()}:{location}"
    return source_of(f"{place}:{name}" if name else place)


def source_of_stack(target: str) -> str:
    """The source of one server and its workers: no other process shares it, be it of the same file."""
    return source_of_file(target) + "+" + secrets.token_hex(4)
