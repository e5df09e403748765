"""Requests as bytes, honest and not: how they are framed is what is wrong with them."""

import json

__all__ = ["HONEST", "ODD_FRAMES", "Pieces"]

Pieces = tuple[bytes | float, ...]
"""What is written, in order; a number is a pause of so many seconds."""

_BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}).encode()
_TOKEN = b"authorization: Bearer issuer/app/ada\r\n"
_FIXED = b"host: 127.0.0.1\r\n" + _TOKEN + b"accept: application/json, text/event-stream\r\n"
_HEAD = b"POST /mcp HTTP/1.1\r\n" + _FIXED + b"content-type: application/json\r\n"
_GET = b"GET /api/tasks HTTP/1.1\r\n" + _FIXED


def _post(body: bytes, *more: bytes) -> bytes:
    return _HEAD + b"".join(more) + b"content-length: %d\r\n\r\n" % len(body) + body


def _framed(body: bytes, *more: bytes) -> bytes:
    return _HEAD + b"".join(more) + b"\r\n" + body


def _slowly(data: bytes, pieces: int, pause: float) -> Pieces:
    size = len(data) // pieces + 1
    parts: list[bytes | float] = []
    for at in range(0, len(data), size):
        parts += [data[at : at + size], pause]
    return tuple(parts)


def _upgrade(path: bytes) -> bytes:
    words = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    return b"GET " + path + b" HTTP/1.1\r\n" + _FIXED + words + b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"


_CHUNKED = b"transfer-encoding: chunked\r\n"
_ONE_CHUNK = b"%x\r\n" % len(_BODY) + _BODY + b"\r\n"

HONEST: tuple[bytes, ...] = (
    _post(_BODY),
    _framed(_ONE_CHUNK + b"0\r\n\r\n", _CHUNKED),
    _GET + b"\r\n",
    _GET.replace(b"/api/tasks", b"/api/tasks/x/events?after=1") + b"last-event-id: 1\r\n\r\n",
    _post(_BODY, b"mcp-protocol-version: 2026-07-28\r\nmcp-method: ping\r\n"),
    b"POST /api/tasks/x/cancel HTTP/1.1\r\n" + _FIXED + b"content-type: application/json\r\ncontent-length: 0\r\n\r\n",
)
"""Those that a mutated one is made from."""

_BODIES: dict[str, bytes] = {
    "no UTF-8": b'{"jsonrpc":"2.0","id":"\xff\xfe","method":"ping"}',
    "UTF-16": _BODY.decode().encode("utf-16"),
    "UTF-32": _BODY.decode().encode("utf-32"),
    "nested without end": b"[" * 500_000,
    "objects without end": b'{"a":' * 200_000,
    "a number without end": b'{"jsonrpc":"2.0","method":"ping","id":' + b"9" * 100_000 + b"}",
    "no numbers": b'{"jsonrpc":"2.0","id":NaN,"method":"ping","params":{"a":Infinity}}',
    "half a character": b'{"jsonrpc":"2.0","id":"\\ud800","method":"tasks/get","params":{"taskId":"\\udfff"}}',
    "keys twice": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping","method":"tasks/list"}',
    "nothing": b"",
    "a NUL": b"\x00",
    "five megabytes": b'{"a":"' + b"x" * 5_000_000 + b'"}',
    "gzip by its name": b"\x1f\x8b\x08\x00\x00",
}

ODD_FRAMES: dict[str, Pieces] = {
    **{f"a body: {name}": (_post(body),) for name, body in _BODIES.items()},
    "chunks": (_framed(_ONE_CHUNK + b"0\r\n\r\n", _CHUNKED),),
    "a chunk a byte": (_framed(b"".join(b"1\r\n%c\r\n" % byte for byte in _BODY) + b"0\r\n\r\n", _CHUNKED),),
    "a chunk with an extension": (_framed(_ONE_CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n", _CHUNKED),),
    "trailers": (_framed(_ONE_CHUNK + b"0\r\nauthorization: Bearer issuer/app/bob\r\n\r\n", _CHUNKED),),
    "a chunk of no size": (_framed(b"zz\r\n" + _BODY, _CHUNKED),),
    "a chunk of negative size": (_framed(b"-5\r\n" + _BODY, _CHUNKED),),
    "a chunk without end": (_framed(b"ffffffffffffffff\r\n" + _BODY, _CHUNKED),),
    "chunks that are cut": (_framed(_ONE_CHUNK[:-10], _CHUNKED),),
    "two lengths": (_post(_BODY, b"content-length: 5\r\n"),),
    "a length and chunks": (_post(_BODY, _CHUNKED),),
    "an unknown coding": (_framed(_BODY, b"transfer-encoding: gzip, chunked\r\n"),),
    "a negative length": (_framed(_BODY, b"content-length: -1\r\n"),),
    "a length that is no number": (_framed(_BODY, b"content-length: many\r\n"),),
    "a length beyond all": (_framed(_BODY, b"content-length: " + b"9" * 30 + b"\r\n"),),
    "a body that is cut": (_framed(_BODY[:-5], b"content-length: %d\r\n" % len(_BODY)),),
    "a body that goes on": (_post(_BODY) + b"GARBAGE\r\n\r\n",),
    "a head that is cut": (_HEAD[:60],),
    "one byte": (b"P",),
    "a byte at a time": _slowly(_post(_BODY), 60, 0.002),
    "a pause in the head": (_HEAD[:40], 0.2, _post(_BODY)[40:]),
    "a pause in the body": (_post(_BODY)[:-10], 0.2, _BODY[-10:]),
    "a long header": (_post(_BODY, b"x-long: " + b"x" * 200_000 + b"\r\n"),),
    "many headers": (_post(_BODY, *(b"x-%d: y\r\n" % number for number in range(3000))),),
    "a header without a colon": (_post(_BODY, b"nonsense\r\n"),),
    "a header without a name": (_post(_BODY, b": value\r\n"),),
    "a NUL in a header": (_post(_BODY, b"x: a\x00b\r\n"),),
    "a folded header": (_post(_BODY, b"x: a\r\n b\r\n"),),
    "a header that is no text": (_post(_BODY, b"mcp-session-id: \xff\xfe\x80\r\nlast-event-id: \xff\r\n"),),
    "a blank before the colon": (_post(_BODY, b"mcp-session-id : x\r\n"),),
    "bare line feeds": (_post(_BODY).replace(b"\r\n", b"\n"),),
    "bare carriage returns": (_post(_BODY).replace(b"\r\n", b"\r"),),
    "two hosts": (_post(_BODY, b"host: evil.example\r\n"),),
    "no host": (_post(_BODY).replace(b"host: 127.0.0.1\r\n", b""),),
    "a host that is no name": (_post(_BODY).replace(b"host: 127.0.0.1", b"host: [::1"),),
    "a method of its own": (_post(_BODY).replace(b"POST", b"FROBNICATE"),),
    "a small method": (_post(_BODY).replace(b"POST", b"post"),),
    "no version": (b"GET /api/tasks\r\n\r\n",),
    "an old version": (_post(_BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),),
    "a version to come": (_post(_BODY).replace(b"HTTP/1.1", b"HTTP/9.9"),),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),),
    "a proxy's line": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + _post(_BODY),),
    "a whole address": (_GET.replace(b"/api/tasks", b"http://evil.example/api/tasks") + b"\r\n",),
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + _FIXED + b"\r\n",),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\n" + _FIXED + b"\r\n",),
    "a path that is no text": (_GET.replace(b"/api/tasks", b"/api/tasks/\xff\xfe") + b"\r\n",),
    "a path with half an escape": (_GET.replace(b"/api/tasks", b"/api/tasks/%z%/%ff%fe%00") + b"\r\n",),
    "a path without end": (_GET.replace(b"/api/tasks", b"/api/tasks/" + b"x" * 60_000) + b"\r\n",),
    "a path with blanks": (_GET.replace(b"/api/tasks", b"/api/tasks/a b c") + b"\r\n",),
    "a promise to continue": (_post(_BODY, b"expect: 100-continue\r\n"),),
    "another promise": (_post(_BODY, b"expect: the-inquisition\r\n"),),
    "an upgrade to HTTP/2": (
        _GET + b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AA\r\n\r\n",
    ),
    "half an upgrade": (_GET + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n",),
    **{
        f"a web socket at {path.decode()}": (_upgrade(path),)
        for path in (b"/mcp", b"/api/tasks", b"/api", b"/metrics", b"/")
    },
    "many at once": (_post(_BODY) * 20,),
    "many at once and then nonsense": (_post(_BODY) * 3 + b"\x00\xff" * 50,),
    "a question about one that is answered": (
        b"HEAD /api/tasks/x/events HTTP/1.1\r\n" + _FIXED + b"\r\n" + _GET + b"\r\n",
    ),
}
"""What is odd about it -> what is written."""
