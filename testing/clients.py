"""Chooses the client of a class. Each has a file of its own; all are the official SDK's client over real HTTP."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import assert_never

from taskmill.testing.answers import Answerer, Answers
from taskmill.testing.client_types import CallRecord, ClientKind, Endpoint, VirtualClient
from taskmill.testing.plain_client import connect_handed_off, connect_held
from taskmill.testing.tasks2025_client import connect_2025
from taskmill.testing.tasks2026_client import connect_2026

__all__ = ["CallRecord", "ClientKind", "VirtualClient", "client_at", "client_of"]


@asynccontextmanager
async def client_of(
    kind: ClientKind, url: str, *, answers: Answers = (), token: str | None = None
) -> AsyncIterator[VirtualClient]:
    """A client of the class, connected."""
    async with client_at(kind, Endpoint(url, Answerer(answers), token)) as client:
        yield client


@asynccontextmanager
async def client_at(kind: ClientKind, endpoint: Endpoint) -> AsyncIterator[VirtualClient]:
    """A client of the class, connected to an endpoint."""
    with _without_groups():
        async with _opening(kind, endpoint) as client:
            yield client


@contextmanager
def _without_groups() -> Iterator[None]:
    """Raises a test's own error instead of the exception groups that the SDK's task groups wrap around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, BaseExceptionGroup):
            raise
        raise cause from None


def _opening(kind: ClientKind, endpoint: Endpoint) -> AbstractAsyncContextManager[VirtualClient]:
    match kind:
        case ClientKind.TASKS_2026:
            return connect_2026(endpoint)
        case ClientKind.TASKS_2025:
            return connect_2025(endpoint)
        case ClientKind.HELD:
            return connect_held(endpoint)
        case ClientKind.HANDED_OFF:
            return connect_handed_off(endpoint)
        case _:
            assert_never(kind)
