"""The part `foreign`: what is another caller's is neither seen nor changed, and looks like what never was."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.principal import principal_of
from tests.fuzz.asgi import Answer
from tests.fuzz.attempts import Attempt, attempts
from tests.fuzz.oracle import Log, faults_of, watched
from tests.fuzz.report import Report
from tests.fuzz.target import Possessions, Target, open_target
from tests.fuzz.valid_requests import api, legacy, modern
from tests.support.invariants import Found

__all__ = ["attack_foreign"]

_PASSING = (
    "queue:",
    "pace:",
    "wake:",
    "newcomer:",
    "worker",
    "turn:",
    "reconciling",
    "live",
    "all",
    "fading",
    "ended",
    "sessions",
    "lane:",
    "line:",
)
"""Families of keys that many share, or that move by themselves."""
_CHOSEN = re.compile(rb"[A-Za-z0-9_-]{22}(?:\.\d+)?(?=[\"\n])|\"id\":\"[\w-]+\"")


async def attack_foreign(redis: Redis, url: str, *, wrap: Callable[[Any], Any] = lambda app: app) -> Report:
    """Reach for everything of ada's as bob, as a stranger without a name, and as nobody; and, last, as ada herself."""
    report = Report("foreign")
    with watched() as log:
        async with open_target(redis, url, wrap=wrap) as target:
            stranger, nobody = Possessions(None), Possessions(None, session="none")
            stranger.session, _ = await target.session("open", None)
            everything = list(attempts(target.ada))
            before = await _belongings(target)
            for attempt in everything:
                for app, who in (
                    ("guarded", target.bob),
                    ("open", stranger),
                    ("guarded", nobody),
                    ("plain", target.bob),
                ):
                    await _reach(report, target, log, attempt, app, who)
            faults = _changed(before, await _belongings(target)) + await _lists(target, stranger)
            if faults:
                report.found(faults, "all attempts together")
            await _vacuous(report, target, everything)
    return report


async def _reach(report: Report, target: Target, log: Log, attempt: Attempt, app: str, who: Possessions) -> None:
    """One attempt, beside the same for what never was."""
    report.examples += 1
    foreign, unknown = attempt.build(attempt.target, who), attempt.build(_like(attempt.target), who)
    answers = [await target.send(app, asked) for asked in (foreign, unknown)]
    faults = [
        fault for asked, answer in zip((foreign, unknown), answers, strict=True) for fault in faults_of(asked, answer)
    ]
    if _plain(answers[0], attempt.target) != _plain(answers[1], _like(attempt.target)):
        faults.append(
            f"{attempt.name} as {who.token or 'nobody'} tells another caller's from what never was: {_shown(answers)}"
        )
    faults += [f"{attempt.name} shows {what} of ada's" for what in _secrets_in(answers[0], attempt, target.ada)]
    faults += log.faults()
    if faults:
        report.found(faults, f"to {app}: {foreign}")


def _like(target: str) -> str:
    """An id of the same form that never was; the same each time."""
    return target[::-1] if target.isdigit() else "A" + target[1:-1].swapcase() + "Q"


def _plain(answer: Answer, target: str) -> tuple[Any, ...]:
    """What an answer says, without the id that was asked for and without what is fresh each time."""
    body = _CHOSEN.sub(b"FRESH", answer.body.replace(target.encode(), b"ID"))
    headers = sorted((name, value) for name, value in answer.headers if name not in (b"date", b"mcp-session-id"))
    return (
        answer.status,
        [(name, value.replace(target.encode(), b"ID")) for name, value in headers],
        body,
        answer.is_whole,
    )


def _secrets_in(answer: Answer, attempt: Attempt, owner: Possessions) -> Iterator[str]:
    """What an answer tells of the owner's beside what the request named itself."""
    known = {owner.artifact, owner.session, owner.open_call, owner.cursor, *owner.tasks} - {attempt.target}
    yield from (one for one in known if one and one.encode() in answer.body and "in a session" not in attempt.name)
    if b"swordfish" in answer.body and b"isError" not in answer.body:
        yield "a result"


def _shown(answers: list[Answer]) -> str:
    return " / ".join(f"{answer.status} {answer.body[:300]!r}" for answer in answers)


async def _belongings(target: Target) -> tuple[dict[str, Any], dict[str, int]]:
    """Values and times to live of all that is ada's."""
    found: Found = await target.found()
    mine = (
        *target.ada.tasks,
        target.ada.artifact,
        target.ada.session,
        target.ada.open_call.partition(".")[0],
        principal_of("issuer", "app", "ada"),
    )
    keys = [key for key in found.values if any(one in key for one in mine) and not _passes(found, key)]
    return {key: found.values[key] for key in keys}, {key: found.ttls[key] for key in keys}


def _passes(found: Found, key: str) -> bool:
    return key.removeprefix(found.keys.root).startswith(_PASSING) or key.startswith("arq:")


def _changed(before: tuple[dict[str, Any], dict[str, int]], after: tuple[dict[str, Any], dict[str, int]]) -> list[str]:
    names = sorted(before[0].keys() | after[0].keys())
    faults = [f"changed by others: {key}" for key in names if before[0].get(key) != after[0].get(key)]
    longer = [key for key in names if after[1].get(key, 0) > before[1].get(key, 0)]
    return faults + [f"kept alive by others: {key}" for key in longer]


async def _lists(target: Target, stranger: Possessions) -> list[str]:
    """Lists show their owner's alone, and nobody goes on in another caller's."""
    faults = []
    token, session = target.bob.token, target.bob.session
    for name, asked in (
        ("GET /api/tasks", api("GET", "/api/tasks?limit=200", token)),
        ("tasks/list", legacy({"id": 1, "method": "tasks/list"}, session, token)),
        ("task_list", modern("tools/call", {"name": "task_list", "arguments": {}}, token, with_tasks=False)),
        ("tasks/list of a stranger", legacy({"id": 1, "method": "tasks/list"}, stranger.session, None)),
    ):
        answer = await target.send("open" if "stranger" in name else "guarded", asked)
        own = target.bob.tasks if "stranger" not in name else ()
        if not all(task_id.encode() in answer.body for task_id in own) or answer.status != 200:
            faults.append(f"{name} does not list its own: {answer.status} {answer.body[:200]!r}")
        faults += [
            f"{name} lists {task_id} of ada's" for task_id in target.ada.tasks if task_id.encode() in answer.body
        ]
    for cursor in (target.ada.cursor, _like(target.ada.cursor)):
        answer = await target.send("guarded", api("GET", f"/api/tasks?cursor={cursor}", token))
        if answer.status != 400 or json.loads(answer.body)["error"]["code"] != "bad_cursor":
            faults.append(f"a cursor that is not bob's is taken: {answer.body!r}")
    return faults


async def _vacuous(report: Report, target: Target, everything: list[Attempt]) -> None:
    """The owner's own attempts must do something, or those of the others have shown nothing."""
    for attempt in everything:
        if not attempt.matters:
            continue
        own, unknown = [
            await target.send("guarded", attempt.build(one, target.ada))
            for one in (attempt.target, _like(attempt.target))
        ]
        if _plain(own, attempt.target) == _plain(unknown, _like(attempt.target)):
            report.found([f"{attempt.name} does nothing for the owner either: {_shown([own, unknown])}"], attempt.name)
