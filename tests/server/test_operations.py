"""Queues, tools and workers for operators: what the API shows of them, and pauses that workers obey."""

from collections.abc import AsyncIterator

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.api_client import ApiClient, refusal
from tests.support.replica import Json, client_of, working
from tests.support.sample_server import make_server

READER, ACTOR = "r" * 16, "a" * 16


@pytest.fixture
async def api(redis: Redis, settings: ServerSettings) -> AsyncIterator[ApiClient]:
    """A replica with operators of two roles, and a worker."""
    settings = settings.model_copy(update={"operator_tokens": f"read:{READER} act:{ACTOR}"})
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings, concurrency=7):
        yield ApiClient(rpc)


async def one(api: ApiClient, what: str, name: str) -> Json:
    rows = (await api.get(f"/api/{what}", READER)).json()[what]
    (found,) = [row for row in rows if row["name"] == name]
    return dict(found)


async def test_a_worker_is_shown_with_what_it_is_and_what_it_runs(api: ApiClient) -> None:
    task_id = await api.mcp(None).task("stay")
    await api.until(task_id, "running")
    with anyio.fail_after(20):
        while not (worker := (await api.get("/api/workers", READER)).json()["workers"][0])["tasks"]:
            await anyio.sleep(0.05)

    assert [(task["id"], task["tool"]) for task in worker["tasks"]] == [(task_id, "stay")]
    assert (worker["queues"], worker["slots"], worker["running"], worker["state"]) == (["default"], 7, 1, "working")
    assert worker["memory"] > 10_000_000
    assert worker["version"]
    assert worker["since"] < worker["tasks"][0]["since"]
    queue = await one(api, "queues", "default")
    assert (queue["open"], queue["workers"], queue["slots"], queue["paused"]) == (1, 1, 7, None)


@pytest.mark.parametrize(("kind", "name"), [("queues", "default"), ("tools", "steps")])
async def test_what_is_paused_is_created_and_told_and_runs_when_it_is_resumed(
    api: ApiClient, kind: str, name: str
) -> None:
    status, shown = await api.send(f"/api/{kind}/{name}/pause", {"reason": "the disk is full"}, ACTOR)
    assert (status, shown["name"]) == (200, name)
    task_id = await api.mcp(None).task("steps", count=1)

    with anyio.fail_after(20):
        while (task := (await api.get(f"/api/tasks/{task_id}")).json())["status_text"] != f"{kind[:-1]} is paused":
            assert task["status"] == "pending"
            await anyio.sleep(0.02)
    paused = (await one(api, kind, name))["paused"]
    assert (paused["reason"], bool(paused["by"]), paused["at"] > "2026") == ("the disk is full", True, True)
    assert (await one(api, "queues", "default"))["held"] == 1

    assert (await api.send(f"/api/{kind}/{name}/resume", {}, ACTOR))[1]["paused"] is None
    assert (await api.until(task_id, "completed"))["outcome"] == "succeeded"


async def test_only_operators_see_and_only_those_who_may_act_pause(api: ApiClient) -> None:
    for path in ("queues", "tools", "workers"):
        assert refusal(await api.get(f"/api/{path}")) == (403, "forbidden")
    assert (await api.send("/api/queues/default/pause", {}, READER))[0] == 403
    assert refusal(await api.post("/api/queues/default/pause")) == (403, "forbidden")
    assert (await one(api, "queues", "default"))["paused"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("queues/defualt/pause", {}, 404, "Known: "),
        ("tools/nothing/resume", {}, 404, "There is no tool nothing"),
        ("queues/default/pause", {"reason": 3}, 400, "reason must be a text"),
        ("queues/default/pause", {"reason": "x" * 501}, 400, "500 characters"),
        ("queues/default/pause", {"why": "x"}, 400, "no other fields than reason"),
        ("queues/default/pause", [], 400, "JSON object"),
    ],
)
async def test_a_wrong_name_or_body_is_refused_with_what_to_send(
    api: ApiClient, path: str, body: object, status: int, told: str
) -> None:
    given, reply = await api.send(f"/api/{path}", body, ACTOR)
    assert given == status
    assert told in reply["error"]["message"]
