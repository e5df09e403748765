"""Flaws put in on purpose, around an application: what the judges must see."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from tests.fuzz.server import CRASH, RESULT

__all__ = ["INSERTED_FAULTS", "with_fault"]

log = structlog.get_logger()
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def _say(send: Send, status: int, body: bytes, kind: bytes = b"text/plain") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


async def _five_hundred(send: Send) -> None:
    await _say(send, 500, b"")


async def _traceback(send: Send) -> None:
    await _say(send, 200, b'Traceback (most recent call last):\n  File "/srv/app.py", line 3, in look\n    oops')


async def _name_of_an_error(send: Send) -> None:
    await _say(send, 400, b'{"error": {"code": "bad_request", "message": "KeyError: \'tool\'"}}', b"application/json")


async def _words_of_the_store(send: Send) -> None:
    await _say(send, 400, b"ERR Error running script (call to f_1): user_script:3: attempt to index a nil value")


async def _words_of_a_crash(send: Send) -> None:
    await _say(send, 200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": CRASH}).encode(), b"application/json")


async def _internal_error(send: Send) -> None:
    error = {"code": -32603, "message": "Internal server error"}
    await _say(send, 200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode(), b"application/json")


async def _internal_error_in_a_stream(send: Send) -> None:
    error = {"code": -32603, "message": "Internal server error"}
    frame = f"event: message\ndata: {json.dumps({'jsonrpc': '2.0', 'id': 1, 'error': error})}\n\n"
    await _say(send, 200, frame.encode(), b"text/event-stream")


async def _no_json(send: Send) -> None:
    await _say(send, 200, b'{"progress": NaN}', b"application/json")


async def _crash(send: Send) -> None:
    raise RuntimeError("boom")


async def _hang(send: Send) -> None:
    await asyncio.Event().wait()


async def _silence(send: Send) -> None:
    return


async def _logged_crash(send: Send) -> None:
    await _say(send, 202, b"")
    log.error("request.crashed", exc_info=RuntimeError("boom"))


async def _logged_by_a_library(send: Send) -> None:
    await _say(send, 202, b"")
    logging.getLogger("mcp.server").error("handler raised", exc_info=RuntimeError("boom"))


async def _logged_result(send: Send) -> None:
    await _say(send, 202, b"")
    log.info("task.settled", outcome={"content": [RESULT]})


INSERTED_FAULTS: dict[str, tuple[Callable[[Send], Awaitable[None]], str]] = {
    "a 500": (_five_hundred, "status 500"),
    "a traceback": (_traceback, "reveals an internal: 'Traceback"),
    "the name of an error": (_name_of_an_error, "reveals an internal: 'KeyError'"),
    "words of the store": (_words_of_the_store, "reveals an internal: 'user_script'"),
    "words of a crash": (_words_of_a_crash, f"reveals an internal: '{CRASH}'"),
    "an internal error": (_internal_error, "internal error"),
    "an internal error in a stream": (_internal_error_in_a_stream, "internal error"),
    "what is not JSON": (_no_json, "not JSON"),
    "a crash": (_crash, "crash: RuntimeError"),
    "a hang": (_hang, "hang"),
    "silence": (_silence, "no answer at all"),
    "a crash in the log": (_logged_crash, "logged a crash"),
    "a crash in a library's log": (_logged_by_a_library, "logged a crash"),
    "a result in the log": (_logged_result, f"logged {RESULT}"),
}
"""Flaw -> how it answers, and how the judges must put it."""


def with_fault(flaw: str) -> Callable[[Any], Any]:
    """Around an application: requests for `/readyz` meet the flaw."""
    answer, _ = INSERTED_FAULTS[flaw]

    def around(app: Any) -> Any:
        async def serve(scope: dict[str, Any], receive: Any, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/readyz":
                await answer(send)
            else:
                await app(scope, receive, send)

        return serve

    return around
