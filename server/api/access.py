"""Who may use the HTTP API: the checks of the MCP endpoint, and the tokens that make their senders operators.

An operator can see everything, and may end it. So its token is removed from the request before anything else can read
it, such as the author's verifier, which may be a service elsewhere.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, RequireAuthMiddleware
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from taskmill.server.api.errors import api_error
from taskmill.server.audit.requests import note_operator
from taskmill.server.auth.operators import NO_OPERATOR, Operator, Operators, Role
from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.http.middleware import path_of
from taskmill.server.http.scope_challenge import metadata_url_of
from taskmill.server.http.transport_security import HeaderChecks
from taskmill.server.streams.event_stream import MAY_READ_ON
from taskmill.store.audit.records import Action, Outcome, Reason, record
from taskmill.store.tasks.tasks import OPERATOR

__all__ = ["Access", "Caller", "CheckedHosts", "Guard", "OperatorToken", "caller_of", "operator_roles"]

_ROLES = "taskmill.operator"
"""Key of a request: the roles of the operator who sent it."""
_NAME = "taskmill.operator_name"
"""Key of a request: the name of that operator, if it has a token of its own."""
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_UNIDENTIFIED = (
    "A list needs to know whose. Send a bearer token of a user, where this server has authentication, or the "
    "operator's (TASKMILL_API_OPERATOR_TOKEN)."
)


@dataclass(frozen=True, slots=True)
class Access:
    """What every request is checked for."""

    hosts: TransportSecuritySettings
    auth: AuthSettings | None = None
    """None: this server has no authentication, and every caller is anonymous."""
    operators: Operators = field(default_factory=Operators)
    """Who may see and end the tasks of all."""
    cors_origins: tuple[str, ...] = ()
    """Whose pages may read responses in a browser, as `origins_of` returns them."""
    is_audited: bool = False
    """Whether the settings want an audit trail."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    principal: str
    """Whose tasks it may see and end."""
    is_operator: bool
    name: str = "operator"
    """Of an operator: as the settings call it, or the digest of a user whose scopes make it one."""

    @property
    def list_owner(self) -> str:
        """Whose list of tasks it gets.

        Raises:
            HTTPException: 403, it is anonymous: no list is its own.
        """
        if self.is_operator:
            return OPERATOR
        if not (named := list_owner()):
            raise HTTPException(403, _UNIDENTIFIED)
        return named

    def record_read(self, task_id: str | None, tool: str | None = None, *, target: str | None = None) -> None:
        """Record that it saw something of a task, if it is an operator: what users do with their own is no matter."""
        if self.is_operator:
            record(Action.TASK_READ, task=task_id, tool=tool, target=target)


def caller_of(request: Request) -> Caller:
    """Who sent this request, which has passed a guard."""
    if request.scope.get(_ROLES):
        return Caller(OPERATOR, is_operator=True, name=request.scope.get(_NAME) or owner())
    return Caller(owner(), is_operator=False)


def operator_roles(scope: Scope, operators: Operators) -> frozenset[Role]:
    """The roles of who sent a request: by an operator's token, or by the scopes of a user; empty = no operator."""
    if roles := scope.get(_ROLES):
        return frozenset(roles)
    user = scope.get("user")
    return operators.roles_of_scopes(user.scopes) if isinstance(user, AuthenticatedUser) else frozenset()


class OperatorToken:
    """ASGI middleware, before all others: recognises the requests of operators by their bearer token."""

    def __init__(self, app: ASGIApp, operators: Operators) -> None:
        self._app = app
        self._operators = operators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the operator's roles and without the token if it is an operator's."""
        if scope["type"] == "http" and (found := self._operator(scope)).roles:
            roles = found.roles
            note_operator(found.name, roles)
            others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
            # A token that is taken away, or loses a role, takes the streams with it that it has opened.
            may_read_on = partial(self._has_roles, scope, roles)
            scope = {**scope, "headers": others, _ROLES: roles, _NAME: found.name or "operator"}
            scope[MAY_READ_ON] = may_read_on
        await self._app(scope, receive, send)

    def _has_roles(self, scope: Scope, roles: frozenset[Role]) -> bool:
        return roles <= self._operator(scope).roles

    def _operator(self, scope: Scope) -> Operator:
        found = NO_OPERATOR
        for name, value in scope["headers"]:
            kind, _, token = value.partition(b" ")
            if name == b"authorization" and kind.lower() == b"bearer":
                found = found.joined(self._operators.of_token(token.strip()))
        return found


class CheckedHosts:
    """ASGI middleware: refuses a foreign Host or Origin before anything answers, also with a redirect to it.

    Probes and scrapers use a replica's address as Host; `/metrics` has its own check.
    """

    def __init__(self, app: ASGIApp, hosts: TransportSecuritySettings) -> None:
        self._app = app
        self._checks = HeaderChecks(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or (path := path_of(scope)) in _OPEN:
            await self._app(scope, receive, send)
            return
        refused = self._checks.refusal(scope)
        if refused is not None and path.startswith("/api/"):
            refused = api_error(refused.status_code, bytes(refused.body).decode())
        await (refused or self._app)(scope, receive, send)


class Guard:
    """ASGI wrapper: admits the callers that the MCP endpoint would admit, and operators; refuses the others."""

    def __init__(self, app: ASGIApp, access: Access, *, operators_only: bool = False) -> None:
        """`operators_only`: for what concerns all tasks; open to all where there are neither users nor a token."""
        self._app = app
        self._access = access
        self._operators_only = operators_only
        self._headers = HeaderChecks(access.hosts)
        auth = access.auth
        metadata_url = metadata_url_of(auth)
        self._authenticated = RequireAuthMiddleware(app, auth.required_scopes or [], metadata_url) if auth else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it. Web sockets are closed: nothing here uses them."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope)
        is_operator = bool(scope.get(_ROLES))
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif is_operator or self._authenticated is None:
            await self._app(scope, receive, send)
        else:
            scope = self._with_roles_of_user(scope)
            await self._authenticated(scope, receive, _with_api_errors(scope, receive, send))

    def _with_roles_of_user(self, scope: Scope) -> Scope:
        """Make an operator of a user whose scopes permit what is asked; any other one is served as a user."""
        roles = operator_roles(scope, self._access.operators)
        if self._needed(scope) not in roles:
            return scope
        note_operator(None, roles)
        return {**scope, _ROLES: roles}

    def _needed(self, scope: Scope) -> Role:
        if self._operators_only:
            return Role.METRICS
        return Role.READ if scope["method"] in ("GET", "HEAD") else Role.ACT

    def _refusal(self, request: Request) -> ASGIApp | None:
        roles = request.scope.get(_ROLES, ())
        refused = self._headers.refusal(request.scope)
        # A scraper uses a replica's address as Host. It has an operator's token; no page in a browser has it.
        if refused is not None and not (self._operators_only and roles):
            return api_error(refused.status_code, bytes(refused.body).decode())
        if request.method not in ("GET", "HEAD") and not _is_deliberate(request.headers):
            return api_error(415, "Send content-type: application/json. A form on another site's page could not.")
        if roles:
            return _refused_role(self._needed(request.scope), roles)
        has_operator = self._access.operators.has_tokens
        if self._operators_only and (self._access.auth is not None or has_operator):
            if self._needed(request.scope) in self._with_roles_of_user(request.scope).get(_ROLES, ()):
                return None
            return _unauthorized("This needs the operator's token (TASKMILL_API_OPERATOR_TOKEN).")
        if self._access.auth is None and has_operator and "authorization" in request.headers:
            return _unauthorized("This is not the operator's token (TASKMILL_API_OPERATOR_TOKEN).")
        return None


def _refused_role(needed: Role, roles: Collection[Role]) -> ASGIApp | None:
    if needed in roles:
        return None
    record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.WRONG_ROLE)
    has = " and ".join(sorted(roles))
    return api_error(403, f"This needs the role {needed}, and this operator's token has {has} only.")


def _is_deliberate(headers: Headers) -> bool:
    """Whether a page of another site cannot have made a browser send this. The origin, if any, was checked before."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or bool(headers.get("origin"))


def _unauthorized(message: str) -> ASGIApp:
    return api_error(401, message, headers={"WWW-Authenticate": "Bearer"})


def _with_api_errors(scope: Scope, receive: Receive, send: Send) -> Send:
    """`send` for the SDK's check of tokens: gives its refusals the shape of this API, passes everything else."""
    refused: Message | None = None

    async def send_or_replace(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and _is_refusal(message):
            refused = message
        elif refused is not None:
            error = json.loads(message["body"])
            headers = {"WWW-Authenticate": Headers(raw=refused["headers"])["www-authenticate"]}
            reply = api_error(refused["status"], error["error_description"], code=error["error"], headers=headers)
            await reply(scope, receive, send)
        else:
            await send(message)

    return send_or_replace


def _is_refusal(message: Message) -> bool:
    """Whether it is a 401 or 403 of the SDK: those that this API sends have no challenge."""
    return message["status"] in (401, 403) and any(name == b"www-authenticate" for name, _ in message["headers"])
