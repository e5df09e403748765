"""What is kept of an error that ended an attempt: class, text and where it was raised, never values of variables.

Nothing here may raise: an author's exception may have any text, or a `__str__` that fails.
"""

from traceback import TracebackException

from taskmill.engine.events import AttemptError, RemoteTrace

__all__ = ["describe"]


def describe(error: BaseException, reference: str = "") -> AttemptError:
    """The error with its causes; of one that was raised in a tool's own process, what it was there."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        cause = error.__cause__
        if isinstance(cause, RemoteTrace):
            return AttemptError(cause.kind, cause.text, cause.trace, reference)
        trace = TracebackException(kind, error, error.__traceback__, compact=True)
        return AttemptError(name, str(trace), "".join(trace.format()), reference)
    except Exception:
        return AttemptError(name, "The exception cannot be shown: reading it failed.", reference=reference)
