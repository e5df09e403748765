"""Chooses the client of a class. Each has a file of its own; all are the official SDK's client over real HTTP."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import assert_never

from taskmill.testing.answers import Answerer, Answers
from taskmill.testing.calling import Called, ClientKind, VirtualClient, Wire
from taskmill.testing.plain_client import connect_handed_off, connect_held
from taskmill.testing.tasks2025_client import connect_2025
from taskmill.testing.tasks2026_client import connect_2026

__all__ = ["Called", "ClientKind", "VirtualClient", "client_of"]


@asynccontextmanager
async def client_of(
    kind: ClientKind, url: str, *, answers: Answers = (), token: str | None = None
) -> AsyncIterator[VirtualClient]:
    """A client of the class, connected."""
    wire = Wire(url, Answerer(answers), token)
    with _as_it_was():
        async with _opening(kind, wire) as client:
            yield client


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Takes what failed in a test out of the groups that the SDK's task groups wrap around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, BaseExceptionGroup):
            raise
        raise cause from None


def _opening(kind: ClientKind, wire: Wire) -> AbstractAsyncContextManager[VirtualClient]:
    match kind:
        case ClientKind.TASKS_2026:
            return connect_2026(wire)
        case ClientKind.TASKS_2025:
            return connect_2025(wire)
        case ClientKind.HELD:
            return connect_held(wire)
        case ClientKind.HANDED_OFF:
            return connect_handed_off(wire)
        case _:
            assert_never(kind)
