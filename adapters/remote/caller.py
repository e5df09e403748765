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

__all__ = [
    "OPERATOR",
    "Mode",
    "UpstreamCaller",
    "caller_of_task",
    "calling_as",
    "has_roots",
    "present_caller",
    "roots_of_task",
]

Mode = Literal["auto", "legacy"]
"""Which revisions a session may have: the newest that both have, or one before 2026 only."""


@dataclass(frozen=True)
class UpstreamCaller:
    """Whose session it is."""

    name: str
    mode: Mode = "auto"
    """That of the caller's own client, so that questions in the middle of a call have a way. A task has both ways."""
    is_shared: bool = True
    """False: nothing tells the caller from others, so the session is for one request."""
    is_one_call: bool = False
    """The same, and it is known which call or task it is: its session serves that to its end, and ends with it."""

    def for_one_call(self, call_id: str) -> "UpstreamCaller":
        """The same caller in one call, where nothing else tells it from others."""
        return self if self.is_shared else UpstreamCaller(f"call {call_id}", self.mode, is_one_call=True)


OPERATOR = UpstreamCaller("operator")
"""Who asks which tools there are."""
_caller: ContextVar[UpstreamCaller | None] = ContextVar("taskmill_upstream_caller", default=None)
has_roots: ContextVar[bool] = ContextVar("taskmill_caller_has_roots", default=True)
"""False: only the caller's model could be asked for roots. A server asks for them at the start of a session, whatever
it is called for, so the model would be asked what the call does not need."""


def caller_of_task(task_id: str, principal: str, payload: Mapping[str, Any]) -> UpstreamCaller:
    """Whose task it is. One that nothing tells from others has the session of its task."""
    kept = payload.get(PAYLOAD_KEY, {})
    is_modern = kept.get("protocol") in MODERN_PROTOCOL_VERSIONS
    return _caller_of(principal, "auto", None if is_modern else kept.get("session_id")).for_one_call(task_id)


@contextmanager
def calling_as(caller: UpstreamCaller) -> Iterator[None]:
    """In the block every session is this caller's."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


@contextmanager
def roots_of_task(payload: Mapping[str, Any]) -> Iterator[None]:
    """In the block a task runs whose client has roots, or has not."""
    token = has_roots.set(not payload.get("client", {}).get("lists_roots_by_tool"))
    try:
        yield
    finally:
        has_roots.reset(token)


def present_caller() -> UpstreamCaller:
    """The owner of the task or call that runs, else of the request; outside of both the operator."""
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


def _caller_of(principal: str, mode: Mode, session_id: str | None) -> UpstreamCaller:
    """All anonymous callers have one principal: only a session tells them apart, and one before 2026 has an id."""
    if principal != ANONYMOUS:
        return UpstreamCaller(principal, mode)
    if session_id:
        return UpstreamCaller(f"session {session_id}", mode)
    return UpstreamCaller(principal, mode, is_shared=False)
