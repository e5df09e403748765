"""Whose call it is that goes to a server behind Taskmill: each caller has sessions of its own there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from fastmcp.server.dependencies import get_context
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.adapters.fastmcp.caller import PAYLOAD_KEY
from taskmill.adapters.fastmcp.fastmcp_private import sdk_request
from taskmill.engine.principal import ANONYMOUS
from taskmill.server.auth.principal import owner

__all__ = ["OPERATOR", "Caller", "Mode", "calling_for", "present_caller"]

Mode = Literal["auto", "legacy"]
"""Which revisions a session may have: the newest that both have, or one before 2026 only."""


@dataclass(frozen=True)
class Caller:
    """Whose session it is."""

    name: str
    mode: Mode = "auto"
    """That of the caller's own client, so that questions in the middle of a call have a way. A task has both ways."""
    is_shared: bool = True
    """False: nothing tells the caller from others, so the session is for one call."""


OPERATOR = Caller("operator")
"""Who asks which tools there are."""
_caller: ContextVar[Caller | None] = ContextVar("taskmill_upstream_caller", default=None)


@contextmanager
def calling_for(principal: str, payload: Mapping[str, Any]) -> Iterator[None]:
    """In the block a task of this principal runs."""
    kept = payload.get(PAYLOAD_KEY, {})
    is_modern = kept.get("protocol") in MODERN_PROTOCOL_VERSIONS
    token = _caller.set(_caller_of(principal, "auto", None if is_modern else kept.get("session_id")))
    try:
        yield
    finally:
        _caller.reset(token)


def present_caller() -> Caller:
    """The owner of the task that runs, else of the request; outside of both the operator."""
    if (caller := _caller.get()) is not None:
        return caller
    try:
        context = get_context()
    except RuntimeError:
        return OPERATOR
    request = sdk_request(context)
    if request is None:
        return OPERATOR
    if request.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return _caller_of(owner(request), "auto", None)
    return _caller_of(owner(request), "legacy", context.session_id)


def _caller_of(principal: str, mode: Mode, session_id: str | None) -> Caller:
    """All anonymous callers have one principal: only a session tells them apart, and one before 2026 has an id."""
    if principal != ANONYMOUS:
        return Caller(principal, mode)
    return Caller(f"session {session_id}", mode) if session_id else Caller(principal, mode, is_shared=False)
