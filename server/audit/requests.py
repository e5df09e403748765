"""Who sends a request over HTTP, for the audit trail, and the record of each request that is refused."""

import ipaddress
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.principal import principal_of
from taskmill.server.auth.principal import identity_of
from taskmill.store.audit.records import (
    Action,
    ActorFacts,
    ActorKind,
    AuditRecord,
    Outcome,
    Reason,
    acting_as,
    current_actor,
    record,
)
from taskmill.store.audit.trail import AuditTrail

__all__ = ["AuditedRequests", "note_operator"]

_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_REASONS: Mapping[int, Reason] = {
    401: Reason.BAD_TOKEN,
    403: Reason.WRONG_ROLE,
    413: Reason.TOO_LARGE,
    415: Reason.FOREIGN_FORM,
    421: Reason.FOREIGN_HOST,
    429: Reason.LIMIT,
    431: Reason.TOO_LARGE,
}
"""Status of a refusal -> its reason, where nothing more exact has been recorded for the request."""


class AuditedRequests:
    """ASGI middleware, outside all others: what a request does leaves a trail in its name, and so does its refusal."""

    def __init__(self, app: ASGIApp, trail: Callable[[], AuditTrail | None], names: Callable[[], bool]) -> None:
        """`trail`: None = there is none now; `names`: whether records name users readably."""
        self._app = app
        self._trail = trail
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        trail = self._trail()
        if scope["type"] != "http" or trail is None:
            await self._app(scope, receive, send)
            return
        sender = _Sender(scope, trail, names=self._names())

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _REASONS and not sender.was_refused:
                record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=_reason(scope, message))
            await send(message)

        with acting_as(sender):
            await self._app(scope, receive, send_and_record)


class _Sender:
    """The sender of one request."""

    def __init__(self, scope: Scope, trail: AuditTrail, *, names: bool) -> None:
        self._scope = scope
        self._trail = trail
        self._names = names
        self._request: str | None = None
        self._operator: tuple[str | None, tuple[str, ...]] | None = None
        self._refused: set[tuple[str | None, str | None]] = set()

    @property
    def was_refused(self) -> bool:
        """Whether a refusal is recorded."""
        return bool(self._refused)

    def facts(self) -> ActorFacts:
        """See `Actor.facts`."""
        if self._request is None:
            self._request = _request_id(self._scope)
        place: dict[str, Any] = {"address": _address(self._scope), "via": "http", "request": self._request}
        token = get_access_token()
        who = subject = client = None
        if token is not None:
            client_id, issuer, user = identity_of(token)
            who = principal_of(issuer, client_id, user)
            if self._names:
                subject, client = user, client_id
        if self._operator is not None:
            name, roles = self._operator
            return ActorFacts(ActorKind.OPERATOR, name or who, roles, subject, client, **place)
        kind = ActorKind.ANONYMOUS if token is None else ActorKind.USER
        return ActorFacts(kind, who, subject=subject, client=client, **place)

    def leave(self, entry: AuditRecord) -> None:
        """See `Actor.leave`; one refusal for one reason has one record, also if two parts of the server find it."""
        if entry.outcome is Outcome.REFUSED:
            if (entry.reason, entry.task) in self._refused:
                return
            self._refused.add((entry.reason, entry.task))
        self._trail.leave(entry)

    def note_operator(self, name: str | None, roles: Collection[str]) -> None:
        """It is an operator."""
        self._operator = name, tuple(sorted(roles))


def note_operator(name: str | None, roles: Collection[str]) -> None:
    """Note that the present request is an operator's. `name`: None = it is a user, named by its digest."""
    if isinstance(sender := current_actor(), _Sender):
        sender.note_operator(name, roles)


def _reason(scope: Scope, start: Message) -> Reason:
    status: int = start["status"]
    if status == 401 and not any(name == b"authorization" for name, _ in scope["headers"]):
        return Reason.NO_TOKEN
    if status == 403 and any(b"insufficient_scope" in value for _, value in start["headers"]):
        return Reason.SCOPE_MISSING
    return _REASONS[status]


def _address(scope: Scope) -> str | None:
    """The address that the ASGI server names; what a proxy may have written there and is no address is left out."""
    client = scope.get("client")
    try:
        return str(ipaddress.ip_address(client[0])) if client else None
    except ValueError:
        return None


def _request_id(scope: Scope) -> str:
    """The trace that the caller has begun (W3C Trace Context), else a fresh id."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and (found := _TRACE.fullmatch(value)):
            return found[1].decode()
    return secrets.token_hex(8)
