"""Requests of sessions being served in the background: a client that hangs up does not end its call.

Runs exchanges through the SDK and ends them with the process; what goes over HTTP is `legacy_http.py`'s business.
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
from taskmill.server.sessions.exchange import Exchange
from taskmill.server.sessions.response import JsonOrSseResponse
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.sessions.open_calls import CallKind
from taskmill.store.sessions.sessions import Session

__all__ = ["RequestRunner"]

log = structlog.get_logger()
_REQUEST_CANCELLED = -32800
"""What the SDK answers a cancelled request with: this wire ends a stream with a response only."""
_KEEP_EVERY = 15.0
_LONG = 0.25
"""Seconds after which a call is worth a subscription, to hear that it is cancelled."""


class RequestRunner:
    """What one replica is serving."""

    def __init__(self, server: Server[Any], runtime: ServerRuntime) -> None:
        self._server = server
        self._runtime = runtime
        self._running: dict[asyncio.Task[None], Exchange] = {}

    async def close(self) -> None:
        """End everything."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def start(self, exchange: Exchange, message: JSONRPCRequest, connection: Connection) -> None:
        """Serve a request until it is answered."""
        task = asyncio.create_task(self._serve(exchange, message, connection), name="taskmill.exchange")
        self._running[task] = exchange
        task.add_done_callback(lambda done: self._running.pop(done, None))

    def drop(self, exchange: Exchange) -> None:
        """Serve this one no more; its stream goes on elsewhere."""
        for task, served in self._running.items():
            if served is exchange:
                task.cancel()

    async def answer(self, exchange: Exchange, message: JSONRPCRequest, connection: Connection) -> dict[str, Any]:
        """The JSON-RPC response to a request."""
        head = {"jsonrpc": "2.0", "id": message.id}
        try:
            state = self._runtime.lifespan_state
            served = serve_one(
                self._server, exchange, message.method, message.params, connection=connection, lifespan_state=state
            )
            return {**head, "result": await served}
        except Exception as exc:
            error = handler_exception_to_error_data(exc)
            if error is None:
                log.error("request.crashed", method=message.method, exc_info=exc)
                error = ErrorData(code=INTERNAL_ERROR, message="Internal server error")
            return {**head, "error": error.model_dump(by_alias=True, mode="json", exclude_none=True)}

    async def notified(
        self, message: JSONRPCNotification, session: Session | None, connection: Connection, exchange: Exchange
    ) -> None:
        """Take a notification; one that cancels a request reaches it on whichever replica it is."""
        if message.method == "notifications/cancelled" and session is not None:
            request_id = (message.params or {}).get("requestId")
            if isinstance(request_id, str | int):
                await self._cancel(session, request_id)
        runner = ServerRunner(self._server, connection, self._runtime.lifespan_state)
        await runner.on_notify(exchange, message.method, message.params)

    def outbound(self, session: Session | None, exchange: Exchange) -> Outbound:
        """The channel for what belongs to no request."""
        return exchange if session is None else _SessionOutbound(self._runtime, session, exchange)

    async def stream(
        self, frames: AsyncGenerator[bytes, None], outlet: JsonOrSseResponse, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Be a response made of `frames`."""
        pumping = asyncio.create_task(_pump(frames, outlet), name="taskmill.stream")
        try:
            await outlet.serve(scope, receive, send)
        finally:
            pumping.cancel()
            await asyncio.wait([pumping])

    async def _serve(self, exchange: Exchange, message: JSONRPCRequest, connection: Connection) -> None:
        attending = asyncio.create_task(self._attend(exchange, asyncio.current_task()))
        try:
            response = await self.answer(exchange, message, connection)
        except asyncio.CancelledError:
            cancelled = exchange.cancel_requested.is_set()
            code = _REQUEST_CANCELLED if cancelled else CONNECTION_CLOSED
            text = "Request cancelled" if cancelled else "The server is shutting down"
            response = {"jsonrpc": "2.0", "id": message.id, "error": {"code": code, "message": text}}
            if exchange.outlet.is_left or (exchange.is_task and not cancelled):
                exchange.outlet.close()
                return
        finally:
            attending.cancel()
        with suppress(StoreUnavailable):
            await exchange.finish(response)
        exchange.outlet.close()

    async def _cancel(self, session: Session, request_id: str | int) -> None:
        store = self._runtime.store
        call = await store.open_calls.find_by_request(session.id, request_id)
        if call is not None and call.task_id is not None and call.kind is CallKind.CALL:
            with suppress(TaskNotFound):
                await store.cancel(call.task_id, session.principal, reason="client")
            return
        await store.sessions.signal(session.id, {"cancel": request_id})

    async def _attend(self, exchange: Exchange, serving: "asyncio.Task[Any] | None") -> None:
        """Keep a call that takes long, and hear that it is cancelled; runs until it is answered."""
        await asyncio.sleep(_LONG)
        if exchange.session is None or serving is None:
            return

        def hear(_channel: str, message: bytes | None) -> None:
            if message is not None and json.loads(message).get("cancel") == exchange.request_id:
                exchange.cancel_requested.set()
                serving.cancel()

        async with self._runtime.store.sessions.subscribe_signals(exchange.session.id, hear):
            await exchange.keep(_KEEP_EVERY)


class _SessionOutbound:
    """The session's own stream, wherever it is held; the request's, while there is none."""

    def __init__(self, runtime: ServerRuntime, session: Session, exchange: Exchange) -> None:
        self._runtime = runtime
        self._session = session
        self._exchange = exchange

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client on the stream of the request that is being served: that one is surely read."""
        if not self._exchange.can_send_request:
            raise NoBackChannelError(method)
        return await self._exchange.send_raw_request(method, params, opts)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Send a notification; lost with the stream, as notifications are."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = dict(params)
        if not await self._runtime.store.sessions.push(self._session.id, {"message": message}):
            await self._exchange.notify(method, params, opts)


async def _pump(frames: AsyncGenerator[bytes, None], outlet: JsonOrSseResponse) -> None:
    try:
        with suppress(StoreUnavailable):  # the client comes back, here or elsewhere
            async with aclosing(frames):
                async for frame in frames:
                    outlet.write(frame)
    finally:
        outlet.close()
