"""Passes HTTP on to a server and keeps what both sides send: messages, statuses, and who left first.

An ASGI application, so that a test runs it in its own loop. `recording_pipe.py` does the same for stdio.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

__all__ = ["RecordingProxy", "parsed"]

_HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}
Record = dict[str, Any]


class RecordingProxy:
    """`app` passes on to the server at `to`; `records` grows as messages pass, each with `at` (seconds) and `what`."""

    def __init__(self, to: str) -> None:
        self.records: list[Record] = []
        self._to = to.rstrip("/")
        self._count = itertools.count(1)
        self._client = httpx2.AsyncClient(timeout=None)
        methods = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"]
        self.app = Starlette(routes=[Route("/{rest:path}", self._pass_on, methods=methods)])

    async def _pass_on(self, request: Request) -> Response:
        number = next(self._count)
        body = await request.body()
        self._keep(number, "request", method=request.method, headers=_told_by(request), body=parsed(body))
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        url = self._to + request.url.path + (f"?{request.url.query}" if request.url.query else "")
        written = asyncio.Event()

        async def trace(event: str, _info: object) -> None:
            if event == "http11.send_request_body.complete":
                written.set()

        outgoing = self._client.build_request(
            request.method, url, headers=headers, content=body, extensions={"trace": trace}
        )
        sending = asyncio.create_task(self._client.send(outgoing, stream=True))
        # The server must see a client leave that leaves before the answer has begun.
        leaving = asyncio.create_task(_disconnected(request))
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            # It has sent all of its request, so the server gets all of it: a host that ends sends its cancel and goes.
            writing = asyncio.create_task(written.wait())
            await asyncio.wait({sending, writing}, return_when=asyncio.FIRST_COMPLETED)
            writing.cancel()
        if not sending.done():
            sending.cancel()
            self._keep(number, "client left", before="the answer")
            return Response(status_code=499)
        leaving.cancel()
        try:
            answer = sending.result()
        except httpx2.HTTPError as exc:
            self._keep(number, "server unreachable", error=repr(exc))
            return Response(status_code=502)
        self._keep(number, "response", status=answer.status_code)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return StreamingResponse(self._chunks(number, answer), answer.status_code, kept)

    async def _chunks(self, number: int, answer: httpx2.Response) -> AsyncIterator[bytes]:
        rest, is_whole = b"", False
        try:
            async for chunk in answer.aiter_raw():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"data:") and line[5:].strip():
                        self._keep(number, "answer", body=parsed(line[5:]))
                yield chunk
            is_whole = True
            if rest.strip():
                self._keep(number, "answer", body=parsed(rest))
        except httpx2.HTTPError as exc:
            self._keep(number, "server cut it", error=repr(exc))
        finally:
            if not is_whole:
                self._keep(number, "client left")
            await answer.aclose()

    def _keep(self, number: int, what: str, **facts: Any) -> None:
        self.records.append({"at": round(time.time(), 3), "n": number, "what": what, **facts})


def _told_by(request: Request) -> dict[str, str]:
    return {
        name: value
        for name, value in request.headers.items()
        if name in ("user-agent", "accept", "last-event-id") or name.startswith("mcp-")
    }


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def parsed(body: bytes) -> Any:
    """The JSON in a body; its text where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
