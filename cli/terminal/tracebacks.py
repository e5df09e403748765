"""Tracebacks for people: they begin with the author's own first line, not with the library lines that led to it."""

import os
import sysconfig
import traceback
from pathlib import Path

__all__ = ["traceback_text"]

_ROOMS = Path(__file__).resolve().parents[2]
_OURS = [f"{_ROOMS / room}{os.sep}" for room in ("engine", "store", "server", "workers", "cli", "testing", "adapters")]
_INSTALLED = [sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES = (*_OURS, *_INSTALLED, "<frozen ")


def _authors(error: BaseException) -> BaseException:
    """The error itself; or the first of its causes that has a line of the author's, if it has none itself."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    return next((one for one in causes if _has_own_line(one)), error)


def _has_own_line(error: BaseException) -> bool:
    return any(not frame.filename.startswith(_LIBRARIES) for frame in traceback.extract_tb(error.__traceback__))


def traceback_text(error: BaseException) -> str:
    """The traceback of an error and of its causes, each without the library lines before the author's first one.

    An error without a line of the author's stays whole, since it is about a library; or, if its cause has such lines,
    is left out, since it only wraps that.
    """
    whole = traceback.TracebackException.from_exception(_authors(error))
    seen: set[int] = set()
    pending = [whole]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        first = next((at for at, frame in enumerate(one.stack) if not frame.filename.startswith(_LIBRARIES)), 0)
        del one.stack[:first]
        pending += [
            linked for linked in (one.__cause__, one.__context__, *(one.exceptions or ())) if linked is not None
        ]
    return "".join(whole.format()).rstrip("\n")
