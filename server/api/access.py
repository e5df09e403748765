"""Who may use the HTTP API: the checks of the MCP endpoint, and one token that makes an operator.

An operator sees and ends everything, so its token is compared in constant time, and taken off the request before
anything else - the author's verifier, which may be a service elsewhere - gets to see it.
"""

import hmac
import json
from dataclasses import dataclass

from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from taskmill.server.api.errors import api_error
from taskmill.server.auth.principal import list_owner, owner
from taskmill.store.tasks.tasks import OPERATOR

__all__ = ["Access", "Caller", "Guard", "OperatorToken", "caller_of"]

_IS_OPERATOR = "taskmill.operator"
_UNIDENTIFIED = (
    "A list needs to know whose. Send a bearer token of a user, where this server has authentication, or the "
    "operator's (TASKMILL_API_OPERATOR_TOKEN)."
)


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of every request."""

    hosts: TransportSecuritySettings
    auth: AuthSettings | None = None
    """None: this server has no authentication, and everybody is anonymous."""
    has_operator: bool = False
    """Whether there is an operator's token."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    principal: str
    """Whose tasks it may see and end."""
    is_operator: bool

    @property
    def list_owner(self) -> str:
        """Whose list it gets.

        Raises:
            HTTPException: 403, nobody's: it is anonymous.
        """
        if self.is_operator:
            return OPERATOR
        if not (named := list_owner()):
            raise HTTPException(403, _UNIDENTIFIED)
        return named


def caller_of(request: Request) -> Caller:
    """Who sent this request, which has passed a guard."""
    if request.scope.get(_IS_OPERATOR):
        return Caller(OPERATOR, is_operator=True)
    return Caller(owner(), is_operator=False)


class OperatorToken:
    """ASGI middleware, before all others: knows the operator's requests by their bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = b"bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, marked and without the token if it is the operator's."""
        if scope["type"] == "http" and any(self._is_it(*header) for header in scope["headers"]):
            others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
            scope = {**scope, "headers": others, _IS_OPERATOR: True}
        await self._app(scope, receive, send)

    def _is_it(self, name: bytes, value: bytes) -> bool:
        kind, _, token = value.partition(b" ")
        said = kind.lower() + b" " + token.strip()
        return name == b"authorization" and hmac.compare_digest(said, self._expected)


class Guard:
    """ASGI wrapper: lets in whom the MCP endpoint would let in, and operators; the others are told why not."""

    def __init__(self, app: ASGIApp, access: Access, *, operators_only: bool = False) -> None:
        """`operators_only`: what concerns all tasks; open where there are neither users nor an operator's token."""
        self._app = app
        self._access = access
        self._operators_only = operators_only
        self._headers = TransportSecurityMiddleware(access.hosts)
        auth = access.auth
        place = build_resource_metadata_url(auth.resource_server_url) if auth and auth.resource_server_url else None
        self._authenticated = RequireAuthMiddleware(app, auth.required_scopes or [], place) if auth else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it. Nothing here is spoken over web sockets."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope)
        is_operator = bool(scope.get(_IS_OPERATOR))
        refusal = await self._refusal(request, is_operator)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif is_operator or self._authenticated is None:
            await self._app(scope, receive, send)
        else:
            await self._authenticated(scope, receive, _retold(scope, receive, send))

    async def _refusal(self, request: Request, is_operator: bool) -> ASGIApp | None:
        unfit = await self._headers.validate_request(request)
        # A scraper names a replica by its address; it has the token, which no page in a browser has.
        if unfit is not None and not (self._operators_only and is_operator):
            return api_error(unfit.status_code, bytes(unfit.body).decode())
        if request.method not in ("GET", "HEAD") and not _is_deliberate(request.headers):
            return api_error(415, "Send content-type: application/json. A form on somebody's page could not.")
        if is_operator:
            return None
        if self._operators_only and (self._access.auth is not None or self._access.has_operator):
            return _unauthorized("This needs the operator's token (TASKMILL_API_OPERATOR_TOKEN).")
        if self._access.auth is None and self._access.has_operator and "authorization" in request.headers:
            return _unauthorized("This is not the operator's token (TASKMILL_API_OPERATOR_TOKEN).")
        return None


def _is_deliberate(headers: Headers) -> bool:
    """Whether a page of somebody else cannot have made a browser send this. The origin, if any, was allowed before."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or bool(headers.get("origin"))


def _unauthorized(message: str) -> ASGIApp:
    return api_error(401, message, headers={"WWW-Authenticate": "Bearer"})


def _retold(scope: Scope, receive: Receive, send: Send) -> Send:
    """`send` for the SDK's check of tokens: its refusals get our shape, everything else passes."""
    refused: Message | None = None

    async def tell(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and _is_refusal(message):
            refused = message
        elif refused is not None:
            said = json.loads(message["body"])
            headers = {"WWW-Authenticate": Headers(raw=refused["headers"])["www-authenticate"]}
            reply = api_error(refused["status"], said["error_description"], code=said["error"], headers=headers)
            await reply(scope, receive, send)
        else:
            await send(message)

    return tell


def _is_refusal(message: Message) -> bool:
    """A 401 or 403 of the SDK's; ours that come from behind it carry no challenge."""
    return message["status"] in (401, 403) and any(name == b"www-authenticate" for name, _ in message["headers"])
