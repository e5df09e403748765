"""Serves requests of sessions in the background: a client that disconnects does not end its call.

Runs requests through the SDK and ends them with the process; what goes over HTTP is in `endpoint.py`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import structlog
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import ServerRunner, serve_one
from mcp.shared.dispatcher import CallOptions, Outbound
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, ErrorData, JSONRPCNotification, JSONRPCRequest
from starlette.types import Receive, Scope, Send

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.server.protocol.cancellation import is_timeout
from taskmill.server.sessions.dispatch import SessionDispatch
from taskmill.server.sessions.response import JsonOrSseResponse
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.sessions.open_calls import CallKind
from taskmill.store.sessions.sessions import Session

__all__ = ["RequestRunner"]

log = structlog.get_logger()
_REQUEST_CANCELLED = -32800
"""The SDK's code for a cancelled request: on this transport only a response ends a stream."""
_RENEW_OUTBOX_EVERY = 15.0
_SUBSCRIBE_AFTER = 0.25
"""Seconds after which a call is long enough for a subscription, to receive that it is cancelled."""


class RequestRunner:
    """The requests that one replica is serving."""

    def __init__(self, server: Server[Any], runtime: ServerRuntime) -> None:
        self._server = server
        self._runtime = runtime
        self._running: dict[asyncio.Task[None], SessionDispatch] = {}

    async def close(self) -> None:
        """End everything."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def start(self, dispatch: SessionDispatch, message: JSONRPCRequest, connection: Connection) -> None:
        """Serve a request until it is answered."""
        task = asyncio.create_task(self._serve(dispatch, message, connection), name="taskmill.request")
        self._running[task] = dispatch
        task.add_done_callback(lambda done: self._running.pop(done, None))

    def stop(self, dispatch: SessionDispatch) -> None:
        """Stop serving this request; its stream goes on elsewhere."""
        for task, served in self._running.items():
            if served is dispatch:
                task.cancel()

    async def respond(
        self, dispatch: SessionDispatch, message: JSONRPCRequest, connection: Connection
    ) -> dict[str, Any]:
        """The JSON-RPC response to a request."""
        head = {"jsonrpc": "2.0", "id": message.id}
        try:
            state = self._runtime.lifespan_state
            served = serve_one(
                self._server, dispatch, message.method, message.params, connection=connection, lifespan_state=state
            )
            return {**head, "result": await served}
        except Exception as exc:
            error = handler_exception_to_error_data(exc)
            if error is None:
                log.error("request.crashed", method=message.method, exc_info=exc)
                error = ErrorData(code=INTERNAL_ERROR, message="Internal server error")
            return {**head, "error": error.model_dump(by_alias=True, mode="json", exclude_none=True)}

    async def handle_notification(
        self, message: JSONRPCNotification, session: Session | None, connection: Connection, dispatch: SessionDispatch
    ) -> None:
        """Take a notification; one that cancels a request reaches it on any replica."""
        if message.method == "notifications/cancelled" and session is not None:
            request_id = (message.params or {}).get("requestId")
            if isinstance(request_id, str | int):
                await self._cancel(session, request_id, has_timed_out=is_timeout(message.params))
        runner = ServerRunner(self._server, connection, self._runtime.lifespan_state)
        await runner.on_notify(dispatch, message.method, message.params)

    def outbound(self, session: Session | None, dispatch: SessionDispatch) -> Outbound:
        """The channel for messages that belong to no request."""
        return dispatch if session is None else _SessionOutbound(self._runtime, session, dispatch)

    async def stream(
        self,
        frames: AsyncGenerator[bytes, None],
        response: JsonOrSseResponse,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve a response made of `frames`."""
        writing = asyncio.create_task(_write_all(frames, response), name="taskmill.stream")
        try:
            await response.serve(scope, receive, send)
        finally:
            writing.cancel()
            await asyncio.wait([writing])

    async def _serve(self, dispatch: SessionDispatch, message: JSONRPCRequest, connection: Connection) -> None:
        watching = asyncio.create_task(self._watch(dispatch, asyncio.current_task()))
        try:
            response = await self.respond(dispatch, message, connection)
        except asyncio.CancelledError:
            cancelled = dispatch.cancel_requested.is_set()
            code = _REQUEST_CANCELLED if cancelled else CONNECTION_CLOSED
            text = "Request cancelled" if cancelled else "The server is shutting down"
            response = {"jsonrpc": "2.0", "id": message.id, "error": {"code": code, "message": text}}
            if dispatch.response.is_disconnected or (dispatch.is_task and not cancelled):
                dispatch.response.close()
                return
        finally:
            watching.cancel()
        with suppress(StoreUnavailable):
            await dispatch.finish(response)
        dispatch.response.close()

    async def _cancel(self, session: Session, request_id: str | int, *, has_timed_out: bool) -> None:
        """Cancel a request, and the task that it created unless the client only gave the request up."""
        store = self._runtime.store
        call = await store.open_calls.find_by_request(session.id, request_id)
        if call is not None and call.task_id is not None and call.kind is CallKind.CALL and not has_timed_out:
            with suppress(TaskNotFound):
                await store.cancel(call.task_id, session.principal, reason="client")
            return
        await store.sessions.signal(session.id, {"cancel": request_id, "timed_out": has_timed_out})

    async def _watch(self, dispatch: SessionDispatch, serving: "asyncio.Task[Any] | None") -> None:
        """Renew the outbox of a long call, and receive that it is cancelled; runs until the call is answered."""
        await asyncio.sleep(_SUBSCRIBE_AFTER)
        if dispatch.session is None or serving is None:
            return

        def receive(_channel: str, message: bytes | None) -> None:
            signal = {} if message is None else json.loads(message)
            if signal.get("cancel") == dispatch.request_id:
                dispatch.has_timed_out = bool(signal.get("timed_out"))
                dispatch.cancel_requested.set()
                serving.cancel()

        async with self._runtime.store.sessions.subscribe_signals(dispatch.session.id, receive):
            await dispatch.renew_outbox(_RENEW_OUTBOX_EVERY)


class _SessionOutbound:
    """The session's own stream, on whichever replica it is open; without one the stream of the request."""

    def __init__(self, runtime: ServerRuntime, session: Session, dispatch: SessionDispatch) -> None:
        self._runtime = runtime
        self._session = session
        self._dispatch = dispatch

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client on the stream of the request that is being served: the client certainly reads that one."""
        if not self._dispatch.can_send_request:
            raise NoBackChannelError(method)
        return await self._dispatch.send_raw_request(method, params, opts)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Send a notification; lost with the stream, as notifications are."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = dict(params)
        if not await self._runtime.store.sessions.push(self._session.id, {"message": message}):
            await self._dispatch.notify(method, params, opts)


async def _write_all(frames: AsyncGenerator[bytes, None], response: JsonOrSseResponse) -> None:
    try:
        with suppress(StoreUnavailable):  # the client reconnects, here or elsewhere
            async with aclosing(frames):
                async for frame in frames:
                    response.write(frame)
    finally:
        response.close()
