"""Each method and route, with each id of another caller's, as each caller: nothing is seen, changed, or told apart."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.fuzz.asgi import Asked, exchange
from tests.fuzz.foreign_part import attack_foreign
from tests.fuzz.hostile_params import METHODS
from tests.fuzz.target import ADA, BOB, Target, open_target
from tests.fuzz.valid_requests import api, bearer, modern

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@pytest.mark.timeout(180)
@pytest.mark.requirement("owner-only", "unknown-id", "own-streams-only")
async def test_what_is_somebody_elses_looks_like_what_never_was_and_stays_as_it_is(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKMILL_APP")  # as where `scripts/fuzz` runs it

    report = await attack_foreign(redis, redis_url)

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples > 4 * 2 * len(METHODS)


def _as_ada(scope: dict[str, Any]) -> dict[str, Any]:
    others = [one for one in scope["headers"] if one[0] != b"authorization"]
    return {**scope, "headers": [*others, *bearer(ADA)]}


def _is_bobs(scope: dict[str, Any], path: str, method: str) -> bool:
    if scope["type"] != "http" or scope["method"] != method or not scope["path"].startswith(path):
        return False
    return bearer(BOB)[0] in scope["headers"]


def _reads(app: App) -> App:
    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await app(_as_ada(scope) if _is_bobs(scope, "/api/tasks/", "GET") else scope, receive, send)

    return serve


def _cancels(app: App) -> App:
    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if _is_bobs(scope, "/api/tasks/", "POST") and scope["path"].endswith("/cancel"):
            await exchange(app, api("POST", scope["path"], ADA))
        await app(scope, receive, send)

    return serve


def _tells(app: App) -> App:
    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if _is_bobs(scope, "/api/artifacts/", "GET"):
            there = await exchange(app, api("GET", scope["path"], ADA))
            if there.status == 200:
                scope = {**scope, "path": "/api/nothing-here"}
        await app(scope, receive, send)

    return serve


def _lists(app: App) -> App:
    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_list = _is_bobs(scope, "/api/tasks", "GET") and scope["path"] == "/api/tasks"
        await app(_as_ada(scope) if is_list else scope, receive, send)

    return serve


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("wrap", "seen"),
    [
        (_reads, "of ada's"),
        (_cancels, "changed by others"),
        (_tells, "tells another caller's from what never was"),
        (_lists, "GET /api/tasks lists"),
    ],
)
async def test_a_leak_put_in_on_purpose_is_seen(redis: Redis, redis_url: str, wrap: Any, seen: str) -> None:
    report = await attack_foreign(redis, redis_url, wrap=wrap)

    assert [fault for fault in report.faults if seen in fault], report.lines()


async def test_a_key_a_call_and_a_state_of_somebody_elses_lead_to_no_task_of_theirs(
    redis: Redis, redis_url: str
) -> None:
    """What a caller chooses itself - an idempotency key, the same call again, a state it was given - is its own."""
    async with open_target(redis, redis_url) as target:
        keyed = {"name": "once", "arguments": {}, "_meta": {"io.taskmill/idempotencyKey": "monday"}}
        ours = {(await target.ask("guarded", modern("tools/call", keyed, who)))["taskId"] for who in (ADA, BOB, ADA)}
        assert len(ours) == 2

        held = {"name": "ask", "arguments": {}, "_meta": {"progressToken": 1}}
        plain = modern("tools/call", held, ADA, with_tasks=False)
        state = (await target.ask("guarded", plain))["requestState"]
        answered = {"name": "ask", "arguments": {}, "requestState": state, "inputResponses": {}}
        assert await _refused(target, modern("tools/call", answered, BOB, with_tasks=False))


async def _refused(target: Target, asked: Asked) -> bool:
    answer = await target.send("guarded", asked)
    return answer.status == 400 and b"error" in answer.body and b"swordfish" not in answer.body
