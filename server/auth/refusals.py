"""Why a token is not good: raised while it is checked, and kept for the one who writes the refusal.

A verifier of the SDK answers with a token or with None, so the reason takes another way: a variable of the request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["BadToken", "noting_refusal", "refused", "why_refused"]


class BadToken(Exception):
    """The token is not good; the message says why, in words for the caller."""


_reasons: ContextVar[list[str] | None] = ContextVar("reasons", default=None)


@contextmanager
def noting_refusal() -> Iterator[None]:
    """For one request: keep why its token is refused."""
    reset = _reasons.set([])
    try:
        yield
    finally:
        _reasons.reset(reset)


def refused(why: str) -> None:
    """Keep why the token of the present request is refused."""
    if (reasons := _reasons.get()) is not None:
        reasons.append(why)


def why_refused() -> str | None:
    """Why the token of the present request was refused; None = it was not, or for no reason that is known."""
    reasons = _reasons.get()
    return reasons[-1] if reasons else None
