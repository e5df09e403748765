"""Streamable HTTP of the revisions before 2026, with sessions that any replica serves.

Decides which bytes are a request, whose session it belongs to, and how HTTP answers it; what a request means is left to
the SDK and its handlers. Source: transports 2025-11-25, "Streamable HTTP".
"""

import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import check_accept_headers
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    InitializeRequestParams,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskmill.engine.errors import CallerError, StoreUnavailable, TaskmillError, TooManySessions
from taskmill.server.auth.lifetime import sooner
from taskmill.server.auth.principal import owner
from taskmill.server.http.transport_security import HeaderChecks
from taskmill.server.protocol.errors import INTERNAL, wire_error
from taskmill.server.sessions.dispatch import SessionDispatch
from taskmill.server.sessions.messages import HttpError, error_response, parse_message
from taskmill.server.sessions.request_runner import RequestRunner
from taskmill.server.sessions.response import JsonOrSseResponse
from taskmill.server.sessions.resumption import StreamEnded, resume_stream
from taskmill.server.sessions.session_stream import SessionStream
from taskmill.server.streams.client_requests import take_reply
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.audit.records import Action, Outcome, Reason, record, record_refusal_of
from taskmill.store.sessions.sessions import Session

__all__ = ["SessionEndpoint"]

log = structlog.get_logger()
_SESSION_HEADER = "mcp-session-id"
_VERSION_HEADER = "mcp-protocol-version"
_DEFAULT_VERSION = "2025-03-26"
"""Of a client that does not send the header (transports, "Protocol Version Header")."""
_MAX_CLIENT_FACTS = 16 * 1024
"""Bytes of an `initialize` request's parameters: they are kept as long as the session."""
_MARGIN = 1.0
"""Seconds after the end of its token that a stream is closed: a held call has been handed off by then."""


class SessionEndpoint:
    """The MCP endpoint for clients of a revision before 2026."""

    def __init__(
        self,
        server: Server[Any],
        runtime: ServerRuntime,
        security: TransportSecuritySettings,
        *,
        json_only: bool = False,
    ) -> None:
        """`json_only`: answer with single JSON bodies, so that nothing can be streamed or asked in mid-call."""
        self._runtime = runtime
        self._checks = HeaderChecks(security)
        self._runner = RequestRunner(server, runtime)
        self._json_only = json_only

    async def close(self) -> None:
        """End what is being served; clients reconnect to another replica."""
        await self._runner.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        request = Request(scope, receive)
        refused = self._checks.refusal(scope, needs_json=request.method == "POST")
        try:
            if refused is not None:
                await refused(scope, receive, send)
                return
            await self._serve(request, scope, receive, send)
        except HttpError as exc:
            await error_response(exc.status, str(exc), exc.code)(scope, receive, send)
        except (TooManySessions, StoreUnavailable) as exc:
            if isinstance(exc, TooManySessions):
                record_refusal_of(exc)
            self._runtime.note_refusal(exc)
            is_theirs = exc.facts.get("limit") == "sessions"
            status = HTTPStatus.TOO_MANY_REQUESTS if is_theirs else HTTPStatus.SERVICE_UNAVAILABLE
            refusal = error_response(status, str(exc), *wire_error(exc))
            refusal.headers["retry-after"] = str(exc.facts.get("retry_after", 1))
            await refusal(scope, receive, send)
        except TaskmillError as exc:
            log.error("request.failed", error=type(exc).__name__, detail=str(exc))
            await error_response(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, INTERNAL_ERROR)(scope, receive, send)

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        match request.method:
            case "POST":
                await self._post(request, scope, receive, send)
            case "GET":
                await self._get(request, scope, receive, send)
            case "DELETE":
                session = await self._session(request)
                await self._runtime.store.sessions.close(session)
                await Response(status_code=HTTPStatus.OK)(scope, receive, send)
            case _:
                text = "The MCP endpoint takes GET, POST and DELETE."
                refused = error_response(HTTPStatus.METHOD_NOT_ALLOWED, text, INVALID_REQUEST)
                refused.headers["allow"] = "GET, POST, DELETE"
                await refused(scope, receive, send)

    async def _post(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        has_json, has_sse = check_accept_headers(request)
        if not has_json or not (has_sse or self._json_only):
            raise HttpError(HTTPStatus.NOT_ACCEPTABLE, "Accept must name application/json and text/event-stream.")
        message = parse_message(await request.body())
        if isinstance(message, JSONRPCRequest) and message.method == "initialize":
            await self._initialize(message, request, scope, receive, send)
            return
        session = await self._session(request) if _SESSION_HEADER in request.headers else None
        match message:
            case JSONRPCRequest():
                await self._request(message, session, request, scope, receive, send)
            case JSONRPCNotification():
                dispatch = SessionDispatch(self._runtime.store, session, message, request, JsonOrSseResponse({}))
                connection = self._connection(session, request, dispatch)
                await self._runner.handle_notification(message, session, connection, dispatch)
                await Response(status_code=HTTPStatus.ACCEPTED)(scope, receive, send)
            case JSONRPCResponse() | JSONRPCError():
                await self._take_reply(message, session)
                await Response(status_code=HTTPStatus.ACCEPTED)(scope, receive, send)

    async def _initialize(
        self, message: JSONRPCRequest, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        client = dict(message.params or {})
        client.pop("_meta", None)
        if (size := len(json.dumps(client))) > _MAX_CLIENT_FACTS:
            text = f"What the client says of itself is {size:,} bytes; {_MAX_CLIENT_FACTS:,} is the limit. Send less."
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text, INVALID_PARAMS)
        session_id = secrets.token_urlsafe(32)
        http = JsonOrSseResponse({_SESSION_HEADER: session_id})
        dispatch = SessionDispatch(self._runtime.store, None, message, request, http)
        connection = Connection.for_loop(dispatch, session_id=session_id)
        response = await self._runner.respond(dispatch, message, connection)
        if "result" in response:
            session = Session(session_id, owner(), connection.protocol_version, client)
            most = self._runtime.limits_of(session.principal).sessions
            await self._runtime.store.sessions.open(session, most=most)
        else:
            http = JsonOrSseResponse({})
        http.respond(response)
        await http.serve(scope, receive, send)

    async def _request(
        self,
        message: JSONRPCRequest,
        session: Session | None,
        request: Request,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if PROTOCOL_VERSION_META_KEY in _meta(message.params):
            raise HttpError(
                HTTPStatus.BAD_REQUEST,
                "This request carries the envelope of revision 2026-07-28, but its MCP-Protocol-Version header names "
                "an earlier one. Send both of the same revision.",
            )
        http = self._response(session)
        dispatch = SessionDispatch(self._runtime.store, session, message, request, http, json_only=self._json_only)
        self._runner.start(dispatch, message, self._connection(session, request, dispatch))
        await http.serve(scope, receive, send)
        if dispatch.is_task:
            self._runner.stop(dispatch)  # any replica makes the rest of its stream

    async def _get(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        if not check_accept_headers(request)[1]:
            raise HttpError(HTTPStatus.NOT_ACCEPTABLE, "Accept must name text/event-stream.")
        session = await self._session(request)
        last_event_id = request.headers.get("last-event-id")
        if last_event_id:
            try:
                stream = await resume_stream(self._runtime.store, session, last_event_id)
            except StreamEnded:
                await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
                return
            if stream is None:
                text = "Last-Event-ID names no stream of this session."
                raise HttpError(HTTPStatus.BAD_REQUEST, text, INVALID_PARAMS)
        else:
            stream = SessionStream(self._runtime.store, session, self._runtime.changes).run()
        await self._runner.stream(stream, self._response(session), scope, receive, send)

    def _response(self, session: Session | None) -> JsonOrSseResponse:
        headers = {_SESSION_HEADER: session.id} if session else {}
        return JsonOrSseResponse(headers, limit=sooner(self._runtime.settings.stream_limit or None, margin=_MARGIN))

    async def _session(self, request: Request) -> Session:
        """The session that a request names.

        Raises:
            HttpError: it names none, or one that has ended or belongs to another principal.
        """
        session_id = request.headers.get(_SESSION_HEADER)
        if not session_id:
            raise HttpError(HTTPStatus.BAD_REQUEST, "This needs an Mcp-Session-Id header.")
        session = await self._runtime.store.sessions.find(session_id, owner())
        if session is None:
            record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_SESSION)
            raise HttpError(HTTPStatus.NOT_FOUND, "Session not found: it has ended. Initialize a new one.")
        request.scope["taskmill.session"] = session.id
        return session

    def _connection(self, session: Session | None, request: Request, dispatch: SessionDispatch) -> Connection:
        outbound = self._runner.outbound(session, dispatch)
        if session is None:
            version = request.headers.get(_VERSION_HEADER, _DEFAULT_VERSION)
            connection = Connection(outbound, protocol_version=version)
        else:
            params = InitializeRequestParams.model_validate(dict(session.client), by_name=False)
            connection = Connection(
                outbound, protocol_version=session.version, session_id=session.id, client_params=params
            )
        connection.initialized.set()
        return connection

    async def _take_reply(self, message: JSONRPCResponse | JSONRPCError, session: Session | None) -> None:
        if session is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "A response needs the session of its request.")
        try:
            reply = message.model_dump(by_alias=True, mode="json", exclude_none=True)
        except ValueError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "The reply is nested too deep.", INVALID_PARAMS) from None
        try:
            await take_reply(self._runtime.store, session, str(message.id), reply)
        except CallerError as exc:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(exc), INVALID_PARAMS) from exc


def _meta(params: Mapping[str, Any] | None) -> Mapping[str, Any]:
    meta = (params or {}).get("_meta")
    return meta if isinstance(meta, Mapping) else {}
