"""Every way to reach for something by its id: each method of either revision, each route of the API, each header."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz.asgi import Asked
from tests.fuzz.hostile_params import METHODS
from tests.fuzz.target import Possessions
from tests.fuzz.valid_requests import Json, api, legacy, modern

__all__ = ["Attempt", "attempts"]

_TOOLS = ("task_wait", "task_status", "task_cancel", "task_answer")
_PERSON = {"action": "accept", "content": {"name": "mallory"}}
_WHERE_AN_ID_MAY_STAND = ("taskId", "uri", "name", "cursor", "requestId", "progressToken", "sessionId", "id", "task_id")


@dataclass(frozen=True)
class Attempt:
    """One reach."""

    name: str
    target: str
    """The id that is reached for."""
    build: Callable[[str, Possessions], Asked]
    """The request of a caller for an id."""
    matters: bool = True
    """Whether the owner is answered otherwise than for an id that does not exist; else the id is only put somewhere."""


def attempts(owner: Possessions) -> Iterator[Attempt]:
    """All of them; those that change something for the owner come last."""
    yield from _looks(owner)
    yield from _listens(owner)
    yield from _everywhere(owner)
    yield from _sessions(owner)
    yield from _changes(owner)


def _rpc(
    name: str, target: str, method: str, params: Callable[[str], Json], *, matters: bool = True
) -> Iterator[Attempt]:
    """Of either revision, in the caller's own session."""
    yield Attempt(f"2026 {name}", target, lambda i, who: modern(method, params(i), who.token), matters)
    yield Attempt(f"2025 {name}", target, lambda i, who: _in_session(method, params(i), who), matters)


def _in_session(method: str, params: Json, who: Possessions, session: str = "") -> Asked:
    message: Json = {"method": method, "params": params}
    if not method.startswith("notifications/"):
        message["id"] = 41
    return legacy(message, session or who.session, who.token)


def _looks(owner: Possessions) -> Iterator[Attempt]:
    for what, task_id in (("done", owner.done), ("running", owner.stays), ("asking", owner.asking)):
        yield Attempt(f"2026 tasks/get {what}", task_id, lambda i, who: modern("tasks/get", {"taskId": i}, who.token))
        yield Attempt(f"2025 tasks/get {what}", task_id, lambda i, who: _in_session("tasks/get", {"taskId": i}, who))
        for path in ("", "?history=1", "?history=1&after=1", "/output", "/output?after=1"):
            yield Attempt(
                f"GET {what}{path}", task_id, lambda i, who, p=path: api("GET", f"/api/tasks/{i}{p}", who.token)
            )  # type: ignore[misc]
    yield Attempt("2025 tasks/result", owner.done, lambda i, who: _in_session("tasks/result", {"taskId": i}, who))
    yield from _rpc("output", owner.done, "resources/read", lambda i: {"uri": f"taskmill://task/{i}/output"})
    yield from _rpc("artifact", owner.artifact, "resources/read", lambda i: {"uri": f"taskmill://artifact/{i}"})
    for tool in _TOOLS[:2]:
        yield from _rpc(tool, owner.done, "tools/call", lambda i, t=tool: {"name": t, "arguments": {"task_id": i}})  # type: ignore[misc]
    for header in ((), (b"range", b"bytes=0-0"), (b"if-none-match", b"*"), (b"range", b"bytes=999-")):
        more = (header,) if header else ()
        yield Attempt(
            f"GET artifact {more}",
            owner.artifact,
            lambda i, who, m=more: api("GET", f"/api/artifacts/{i}", who.token, m),
        )  # type: ignore[misc]
    yield Attempt("HEAD artifact", owner.artifact, lambda i, who: api("HEAD", f"/api/artifacts/{i}", who.token))


def _listens(owner: Possessions) -> Iterator[Attempt]:
    def listen(i: str, who: Possessions) -> Asked:
        return modern("subscriptions/listen", {"notifications": {"taskIds": [i]}}, who.token)

    yield Attempt("2026 subscriptions/listen", owner.stays, listen)
    for cursor in (b"", b"0", b"1"):
        more = ((b"last-event-id", cursor),) if cursor else ()
        yield Attempt(
            f"GET events {more}", owner.done, lambda i, who, m=more: api("GET", f"/api/tasks/{i}/events", who.token, m)
        )  # type: ignore[misc]
        yield Attempt(
            f"GET output {more}",
            owner.done,
            lambda i, who, m=more: api(
                "GET", f"/api/tasks/{i}/output", who.token, (*m, (b"accept", b"text/event-stream"))
            ),
        )  # type: ignore[misc]


def _everywhere(owner: Possessions) -> Iterator[Attempt]:
    """Every method there is, with the id wherever an id may stand."""
    for method in METHODS:
        if method not in ("tasks/cancel", "tasks/update", "subscriptions/listen", "initialize") and method.isascii():
            yield from _rpc(f"{method} with an id everywhere", owner.stays, method, _strewn, matters=False)


def _strewn(task_id: str) -> Json:
    named = dict.fromkeys(_WHERE_AN_ID_MAY_STAND, task_id)
    related = {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": task_id}, "progressToken": task_id}}
    return {**named, **related, "arguments": {"task_id": task_id}, "notifications": {"taskIds": [task_id]}}


def _sessions(owner: Possessions) -> Iterator[Attempt]:
    call = owner.open_call.partition(".")[0]

    def resume(cursor: str) -> Callable[[str, Possessions], Asked]:
        return lambda i, who: legacy(
            None, who.session, who.token, headers=((b"last-event-id", f"{i}.{cursor}".encode()),)
        )

    yield Attempt("GET from the middle of a call", call, resume("1"))
    yield Attempt("GET from the end of a call", call, resume("end"))
    for method in METHODS:
        if method.isascii() and method != "initialize":
            yield Attempt(
                f"{method} in a session",
                owner.session,
                lambda i, who, m=method: _in_session(m, {"taskId": owner.stays}, who, i),
                matters=method == "ping",
            )  # type: ignore[misc]
    yield Attempt("GET a session's stream", owner.session, lambda i, who: legacy(None, i, who.token))
    yield Attempt("a reply in a session", owner.session, lambda i, who: legacy({"id": "x", "result": {}}, i, who.token))


def _changes(owner: Possessions) -> Iterator[Attempt]:
    call = owner.open_call.partition(".")[0]

    def reply(i: str, who: Possessions) -> Asked:
        return legacy({"id": f"{i}:{owner.question}", "result": _PERSON}, who.session, who.token)

    yield Attempt("a reply to a question of a call", call, reply, matters=False)
    yield Attempt(
        "notifications/cancelled",
        "77",
        lambda i, who: _in_session("notifications/cancelled", {"requestId": int(i)}, who),
        matters=False,
    )
    for once in ((), ((b"idempotency-key", b"k"),)):
        yield Attempt(
            f"POST rerun {once}",
            owner.failed,
            lambda i, who, o=once: api("POST", f"/api/tasks/{i}/rerun", who.token, o),
        )  # type: ignore[misc]
    answer: Callable[[str], Json] = lambda i: {"taskId": i, "inputResponses": {owner.question: _PERSON}}  # noqa: E731
    yield Attempt("2026 tasks/update", owner.asking, lambda i, who: modern("tasks/update", answer(i), who.token))
    said = {"key": owner.question, "answer": {"name": "mallory"}}
    yield from _rpc(
        "task_answer",
        owner.asking,
        "tools/call",
        lambda i: {"name": "task_answer", "arguments": {"task_id": i, **said}},
    )
    yield Attempt("POST cancel", owner.stays, lambda i, who: api("POST", f"/api/tasks/{i}/cancel", who.token))
    yield from _rpc("tasks/cancel", owner.stays, "tasks/cancel", lambda i: {"taskId": i})
    yield from _rpc(
        "task_cancel", owner.stays, "tools/call", lambda i: {"name": "task_cancel", "arguments": {"task_id": i}}
    )
    yield Attempt("DELETE a session", owner.session, lambda i, who: legacy(None, i, who.token, method="DELETE"))
