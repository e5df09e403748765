"""Hostile requests: an honest one of either revision, of the API or of nothing, with a few things wrong with it."""

from typing import Any
from urllib.parse import quote

from tests.fuzz.asgi import Asked, Header
from tests.fuzz.choices import Choices
from tests.fuzz.hostile_params import METHODS, params_of, task_id_in
from tests.fuzz.json_text import Raw, mutated, serialized
from tests.fuzz.target import ADA, BOB, INITIALIZE, OPERATOR_TOKEN, Target
from tests.fuzz.valid_requests import JSON_HEADERS, bearer, envelope, modern_headers, session_headers

__all__ = ["APPS", "hostile"]

APPS = ("guarded", "open", "plain")
_TOKENS = (
    *(ADA, BOB, ADA + "/rows:write", None, OPERATOR_TOKEN),
    *("nonsense", "", "a/b/c", "issuer/app/\u00e9", "x" * 3000),
)
_MOST_USED = (
    *("tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list", "tools/call", "tools/call"),
    *("subscriptions/listen", "resources/read", "notifications/cancelled"),
)
_WAITING = ("tools/call", "tasks/result", "subscriptions/listen")
_HEADERS = tuple(
    b"mcp-protocol-version mcp-method mcp-name mcp-session-id last-event-id accept content-type host origin range "
    b"authorization idempotency-key if-none-match if-range content-length transfer-encoding traceparent".split()
)
_VALUES = (
    *(b"", b" ", b"\xff\xfe", b"\x80" * 50, b"x" * 9000, b"1", b"-1", b"*", b"..", b"x.1", b"x.end", b"\x00", b"a\tb"),
    *(b"2026-07-28", b"2025-11-25", b"2025-03-26", b"9999-99-99", b"null", b"tasks/get", b"1" * 40, b"00-0-0-0"),
    *(b"*/*", b"text/event-stream", b"application/json", b"evil.example", b"127.0.0.1:8000, x", b"[::1]:99999"),
    *(b"=?base64?////?=", b"=?base64?7aCA?=", b"=?base64?YQ==?=", b'W/"x"', b"Bearer", b"Bearer \xff", b"Basic eDp5"),
    *(b"bytes=0-0", b"bytes=-0", b"bytes=9-1", b"bytes=0-1,3-4", b"bytes=99999999999999999-"),
)


def hostile(choices: Choices, target: Target) -> tuple[str, Asked]:
    """One request, and the application it goes to."""
    app = choices.pick(APPS)
    match choices.number(10):
        case 0 | 1 | 2 | 3:
            return app, _modern(choices, target)
        case 4 | 5 | 6:
            return app, _legacy(choices, target)
        case 7 | 8:
            return app, _api(choices, target)
        case _:
            return app, _garbage(choices, target)


def _modern(choices: Choices, target: Target) -> Asked:
    method = _method(choices)
    params = params_of(method, choices, target)
    whole = {"jsonrpc": "2.0", "id": 1, "method": method, "params": envelope(params, with_tasks=not choices.chance(30))}
    named = modern_headers(method, params) if method.isprintable() else JSON_HEADERS
    headers = (*named, *bearer(_token(choices)))
    return _posted(headers, whole, choices)


def _legacy(choices: Choices, target: Target) -> Asked:
    session, token = choices.pick(((target.ada.session, ADA), (target.bob.session, BOB)))
    if choices.chance(15):
        session, token = choices.pick((target.ada.session, None, "x", "\u00ff")), _token(choices)
    headers = (*_session_headers(session), *bearer(token))
    if choices.chance(15):
        cursor = choices.pick((target.ada.open_call, target.bob.open_call, "x.1", "x.end", ".", "a.b", "1", "\u00ff"))
        named = ((b"last-event-id", cursor.encode("latin-1")),) if choices.chance(70) else ()
        verb = choices.pick(("GET", "GET", "GET", "PUT", "HEAD", "OPTIONS", "PATCH"))
        return _sent(verb, "/mcp", (*headers, *named), b"", choices, may_wait=True)
    if choices.chance(10):
        reply = {
            "jsonrpc": "2.0",
            "id": _reply_id(choices, target),
            "result": {"action": "accept", "content": {"name": "x"}},
        }
        return _sent("POST", "/mcp", headers, _mutated_body(reply, choices), choices, may_wait=False)
    method = _method(choices)
    params = INITIALIZE if method == "initialize" else params_of(method, choices, target)
    whole = {"jsonrpc": "2.0", "id": choices.pick((1, "a", 77, 0)), "method": method, "params": params}
    if method.startswith("notifications/"):
        del whole["id"]
    return _posted(headers, whole, choices)


def _api(choices: Choices, target: Target) -> Asked:
    task_id = task_id_in(choices, target)
    shown = quote(task_id if isinstance(task_id, str) else "x", safe="", errors="replace")
    number = choices.pick(("", "0", "1", "-1", "1e3", "9" * 15, "9" * 400, "\u0661", "NaN", " 1", "%00"))
    artifact = choices.pick((target.ada.artifact, target.bob.artifact, shown))
    cursor = choices.pick((target.ada.cursor, target.bob.cursor, "", "x", "====", "\u00e9", "A" * 1025, "-_-_"))
    path = choices.pick(
        (
            f"/api/tasks/{shown}",
            f"/api/tasks/{shown}/events?after={quote(number)}",
            f"/api/tasks/{shown}/output?after={quote(number)}",
            f"/api/tasks/{shown}/cancel",
            f"/api/tasks/{shown}/rerun",
            f"/api/tasks?limit={quote(number)}&cursor={quote(cursor)}",
            f"/api/tasks?status={choices.pick(('running', 'x', ',', 'pending,,failed', '%ff'))}&tool={quote(shown)}",
            f"/api/tasks/{shown}?history={quote(number)}&after={quote(number)}",
            f"/api/artifacts/{quote(artifact)}",
            "/api/tasks/",
            "/api",
            "/api/",
            "/metrics",
            "/healthz",
            "/readyz",
            "/",
            "/.well-known/oauth-protected-resource/mcp",
            f"/{shown}",
            "/api/tasks/%2e%2e/%2e%2e",
            "/mcp/",
            "//api//tasks",
            "/api/tasks/x/events/y",
        )
    )
    verb = choices.pick(("GET", "GET", "POST", "HEAD", "DELETE", "PUT", "OPTIONS", "FOO", "PATCH"))
    if verb == "GET" and path.partition("?")[0].endswith(("/cancel", "/rerun")):
        verb = "POST"
    more: tuple[Header, ...] = ((b"accept", b"text/event-stream"),) if choices.chance(30) else ()
    headers = (*JSON_HEADERS[:2], *more, *bearer(_token(choices)))
    streams = "/events" in path or "/output" in path
    return _sent(verb, path, headers, b"", choices, may_wait=streams)


def _garbage(choices: Choices, target: Target) -> Asked:
    headers = (
        (*modern_headers("tasks/get", {}), *bearer(ADA))
        if choices.chance(50)
        else (*session_headers(target.ada.session), *bearer(ADA))
    )
    body = choices.pick(
        (
            b"",
            b"null",
            b"[]",
            b"{}",
            b"0",
            b'"',
            b"\xff\xfe{\x00}\x00",
            b"\xef\xbb\xbf{}",
            b"{" * 5000,
            b"[" * 100_000,
            b'{"a":' * 20_000,
            b'{"jsonrpc":"2.0","id":1,"method":"ping"}\x00',
            b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
            b"\x00" * 100,
            b"1" * 5000,
            '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
            '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-32"),
            b'{"jsonrpc":"2.0","id":1,"method":"p\xc3\x28"}',
            b'{"id":' + b"9" * 4400 + b"}",
            b'{"a":"' + b"x" * 70_000 + b'"}',
            choices.rest,
        )
    )
    return _sent("POST", "/mcp", headers, body, choices, may_wait=False)


def _method(choices: Choices) -> str:
    return choices.pick(_MOST_USED if choices.chance(60) else METHODS)


def _token(choices: Choices) -> str | None:
    return choices.pick(_TOKENS[:3] if choices.chance(70) else _TOKENS)


def _session_headers(session: str | None) -> tuple[Header, ...]:
    return (*session_headers(None), *(() if session is None else ((b"mcp-session-id", session.encode("latin-1")),)))


def _reply_id(choices: Choices, target: Target) -> Any:
    call = choices.pick((target.ada.open_call, target.bob.open_call)).partition(".")[0]
    return choices.pick(
        (f"{call}:{target.ada.question}", f"{call}:x", ":", "x", 1, "\ud800:x", "x:\ud800", f"{call}:\ud800")
    )


def _posted(headers: tuple[Header, ...], whole: dict[str, Any], choices: Choices) -> Asked:
    body = _mutated_body(whole, choices)
    # A request may wait for what it asks about; a notification, or what has no id any more, never.
    may_wait = whole["method"] in _WAITING and b'"id"' in body
    return _sent("POST", "/mcp", headers, body, choices, may_wait=may_wait)


def _mutated_body(whole: dict[str, Any], choices: Choices) -> bytes:
    tree: Any = whole
    for _ in range(choices.pick((0, 1, 1, 1, 2))):
        if isinstance(tree, dict) and "params" in tree and choices.number(4):
            tree = {**tree, "params": mutated(tree["params"], choices)}
        else:
            tree = mutated(tree, choices)
    if choices.chance(5):
        tree = choices.pick(
            (
                [tree],
                Raw(f" {serialized(tree)} \n"),
                Raw(f"{serialized(tree)}{serialized(tree)}"),
                Raw(serialized(tree)[:-1]),
            )
        )
    body = serialized(tree).encode()
    if choices.chance(5) and body:
        at = choices.number(len(body)) if len(body) < 65_536 else 0
        body = body[:at] + bytes([choices.number(256)]) + body[at + 1 :]
    return body


def _sent(
    method: str, target: str, headers: tuple[Header, ...], body: bytes, choices: Choices, *, may_wait: bool
) -> Asked:
    named = list(headers)
    for _ in range(choices.pick((0, 0, 0, 0, 0, 1, 1, 2))):
        header = (choices.pick(_HEADERS), choices.pick(_VALUES))
        match choices.number(3):
            case 0:
                named = [one for one in named if one[0] != header[0]] + [header]
            case 1:
                named = [one for one in named if one[0] != header[0]]
            case _:
                named.append(header)
    cuts = (choices.number(65_536),) if choices.chance(15) else ()
    return Asked(method, target, tuple(named), body, may_wait=may_wait, cuts=cuts)
