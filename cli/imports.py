"""How the modules of a command are imported: without collecting garbage meanwhile."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_collection"]


@contextmanager
def without_collection() -> Iterator[None]:
    """Import in the block: a sixth of an import is a search for garbage, of which it leaves none.

    What exists at the end is never searched again: it lives as long as the process.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
