"""The SDK's dispatch context of one HTTP request, for revisions before 2026: where the messages of its handler go.

A call of a task is streamed from the task's events (`call_stream.py`); what other calls send is kept in their outbox.
So any replica can continue both.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, JSONRPCNotification, JSONRPCRequest, RequestId
from starlette.requests import Request

from taskmill.engine.errors import StoreUnavailable
from taskmill.server.sessions.response import JsonOrSseResponse
from taskmill.server.streams import sse
from taskmill.store.sessions.open_calls import OpenCall
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["RETRY_MS", "SessionDispatch", "dispatch_of", "new_call_id"]

RETRY_MS = 1000
"""After which a client reconnects for its stream; the official ones give up after two failed attempts."""
_RESUMABLE_SINCE = "2025-11-25"
"""The first revision whose clients understand an event without data."""


def new_call_id() -> str:
    """A fresh id of an open call: unguessable, and without a dot."""
    return secrets.token_urlsafe(16)


def dispatch_of(request: Any) -> "SessionDispatch | None":
    """The dispatch context that a request is part of; None over stdio and for revisions from 2026 on."""
    found: SessionDispatch | None = getattr(request, "scope", {}).get("taskmill.dispatch")
    return found


class SessionDispatch:
    """The dispatch context of one request, in front of its HTTP response."""

    def __init__(
        self,
        store: TaskStore,
        session: Session | None,
        message: JSONRPCRequest | JSONRPCNotification,
        request: Request,
        response: JsonOrSseResponse,
        *,
        json_only: bool = False,
    ) -> None:
        """`session`: None for a client without one: it cannot be asked anything, and cannot resume.

        `json_only`: the response has room for one message.
        """
        self.session = session
        # None = no one waits for a response: a notification may carry the method of a request.
        self.request_id: RequestId | None = message.id if isinstance(message, JSONRPCRequest) else None
        self.token = progress_token_from_params(message.params)
        self.response = response
        self.cancel_requested = anyio.Event()
        self.has_timed_out = False
        """Whether the client gave the request up at its call timeout."""
        self.can_resume = session is not None and session.version >= _RESUMABLE_SINCE and not json_only
        self.can_send_request = session is not None and not json_only
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=self.can_send_request, headers=request.headers
        )
        self.message_metadata = ServerMessageMetadata(
            request_context=request, close_sse_stream=self.close_connection if self.can_resume else None
        )
        self.call: OpenCall | None = None
        self._store = store
        self._json_only = json_only
        self._sent = 0
        """Messages in the outbox."""
        self._lock = asyncio.Lock()
        request.scope["taskmill.dispatch"] = self

    @property
    def is_task(self) -> bool:
        """Whether it is the call of a task: any replica makes its stream from the task's events."""
        return self.call is not None and self.call.task_id is not None

    async def renew_outbox(self, every: float) -> None:
        """Show those who read the outbox elsewhere that it is still being filled; never returns."""
        while True:
            await asyncio.sleep(every)
            if self.call is not None and self.call.task_id is None and self.can_resume:
                with suppress(StoreUnavailable):
                    await self._store.open_calls.append_message(self.call.id, self._sent, None)

    def send(self, message: dict[str, Any], event_id: str | None) -> None:
        """Send a message of a task's stream."""
        if not self._json_only:
            self.response.write(sse.event(message, event_id))

    async def open_stream(self, call: OpenCall | None = None) -> None:
        """Make the response a stream that can be resumed, unless it is one or the client cannot resume.

        `call`: of a task; None = its messages are kept in an outbox.
        """
        if self.call is not None or self.session is None or self._json_only:
            return
        request_id = "" if self.request_id is None else self.request_id
        self.call = call or OpenCall(new_call_id(), self.session.id, request_id)
        if not self.can_resume and call is None:
            return
        await self._store.open_calls.begin(self.call)
        if call is None:
            # An empty message first, so that the outbox exists from the beginning.
            self._sent = 1
            await self._store.open_calls.append_message(self.call.id, self._sent, {})
        if self.can_resume:
            self.response.write(sse.priming(f"{self.call.id}.{self._sent}", RETRY_MS))

    async def close_connection(self) -> None:
        """Close the connection, not the stream: the client reconnects for the rest."""
        async with self._lock:
            await self.open_stream()
        self.response.close()

    async def finish(self, response: dict[str, Any]) -> None:
        """Send the response to the request."""
        if self.call is None:
            self.response.respond(response)
            return
        if self.call.task_id is None and self.can_resume:
            await self._send_kept(response)
            self.response.close()
        else:
            self.response.respond(response, f"{self.call.id}.end")
        await self._store.open_calls.end(self.call)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Send a notification on the response's stream."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        await self._send_kept(message if params is None else {**message, "params": dict(params)})

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress to a client that asked for it."""
        if self.token is None:
            return
        params = {"progressToken": self.token, "progress": progress, "total": total, "message": message}
        given = {name: value for name, value in params.items() if value is not None}
        await self.notify("notifications/progress", given)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send the client a request; its reply may arrive at another replica.

        Raises:
            MCPError: the client replied with an error, or not in time; or the session has ended.
            NoBackChannelError: this client cannot be asked.
        """
        if self.session is None:
            raise NoBackChannelError(method)
        request_id = secrets.token_urlsafe(16)
        signals = _SessionSignals()
        async with self._store.sessions.subscribe_signals(self.session.id, signals.receive):
            message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
            await self._store.sessions.expect_reply(self.session.id, request_id)
            await self._send_kept(message if params is None else {**message, "params": dict(params)})
            try:
                async with asyncio.timeout((opts or {}).get("timeout")):
                    reply = await self._reply(self.session.id, request_id, signals)
            except TimeoutError:
                raise MCPError(REQUEST_TIMEOUT, f"The client did not answer {method} in time.") from None
        if "error" in reply:
            error = reply["error"]
            raise MCPError(error["code"], error["message"], error.get("data"))
        result: dict[str, Any] = reply["result"]
        return result

    async def _reply(self, session_id: str, request_id: str, signals: "_SessionSignals") -> dict[str, Any]:
        while True:
            if await signals.has_ended():
                raise MCPError(CONNECTION_CLOSED, "The session has ended.")
            reply = await self._store.sessions.take_reply(session_id, request_id)
            if reply is not None:
                return reply

    async def _send_kept(self, message: dict[str, Any]) -> None:
        """Send a message, and keep it in the outbox where the client can resume."""
        if self._json_only:
            return
        async with self._lock:
            await self.open_stream()
            if self.call is None or not self.can_resume:
                self.response.write(sse.event(message))
                return
            self._sent += 1
            await self._store.open_calls.append_message(self.call.id, self._sent, message)
            self.response.write(sse.event(message, f"{self.call.id}.{self._sent}"))


class _SessionSignals:
    """Signals to the session, for a request that waits for its reply."""

    def __init__(self) -> None:
        self._received = asyncio.Event()
        self._ended = False

    def receive(self, _channel: str, message: bytes | None) -> None:
        self._ended = self._ended or (message is not None and "closed" in json.loads(message))
        self._received.set()

    async def has_ended(self) -> bool:
        """Wait for a signal; True = the session has ended."""
        await self._received.wait()
        self._received.clear()
        return self._ended
