"""Queues, tools and workers for operators: what the API shows of them, and pauses that workers obey."""

import json
from collections.abc import AsyncIterator

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.api_client import POST, ApiClient, bearer, refusal
from tests.support.replica import Json, client_of, working
from tests.support.sample_server import make_server

READER, ACTOR, SCRAPER = "r" * 16, "a" * 16, "s" * 16


@pytest.fixture
async def api(redis: Redis, settings: ServerSettings) -> AsyncIterator[ApiClient]:
    """A replica with operators of two roles, and a worker that reports of itself every second, with its lease."""
    settings = settings.model_copy(update={"operator_tokens": f"read:{READER} act:{ACTOR} metrics:{SCRAPER}"})
    async with (
        client_of(make_server(settings)) as rpc,
        working(make_server(settings), settings, concurrency=7, lease=3),
    ):
        yield ApiClient(rpc)


async def one(api: ApiClient, what: str, name: str) -> Json:
    rows = (await api.get(f"/api/{what}", READER)).json()[what]
    (found,) = [row for row in rows if row["name"] == name]
    return dict(found)


async def test_a_worker_is_shown_with_what_it_is_and_what_it_runs(api: ApiClient) -> None:
    task_id = await api.mcp(None).task("stay")
    await api.until(task_id, "running")
    with anyio.fail_after(30):
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

    with anyio.fail_after(30):
        while (task := (await api.get(f"/api/tasks/{task_id}")).json())["status_text"] != f"{kind[:-1]} is paused":
            assert task["status"] == "pending"
            await anyio.sleep(0.02)
    paused = (await one(api, kind, name))["paused"]
    assert (paused["reason"], bool(paused["by"]), paused["at"] > "2026") == ("the disk is full", True, True)
    assert (await one(api, "queues", "default"))["held"] == 1
    metrics = (await api.get("/metrics", SCRAPER)).text
    assert f'taskmill_paused{{kind="{kind[:-1]}",name="{name}"}} 1.0' in metrics
    assert 'taskmill_tasks_held{queue="default"} 1.0' in metrics

    assert (await api.send(f"/api/{kind}/{name}/resume", {}, ACTOR))[1]["paused"] is None
    assert (await api.until(task_id, "completed"))["outcome"] == "succeeded"


async def test_half_a_character_in_a_reason_is_shown_as_it_was_sent_and_in_a_filter_is_refused(api: ApiClient) -> None:
    async def post(path: str, body: bytes) -> tuple[int, Json]:
        headers = {**POST, **bearer(ACTOR)}
        reply = await api.rpc.http.post(f"{api.address}/api/{path}", content=body, headers=headers)
        return reply.status_code, reply.json()

    status, shown = await post("queues/default/pause", rb'{"reason": "full \ud83d"}')
    assert (status, shown["paused"]["reason"]) == (200, "full \ud83d")
    assert (await one(api, "queues", "default"))["paused"]["reason"] == "full \ud83d"
    assert (await post("bulk", rb'{"action": "cancel", "where": {"\ud83d": "x"}}'))[0] == 400
    await post("queues/default/resume", b"{}")


async def test_only_operators_see_and_only_those_who_may_act_pause(api: ApiClient) -> None:
    for path in ("queues", "tools", "workers"):
        assert refusal(await api.get(f"/api/{path}")) == (403, "forbidden")
    assert (await api.send("/api/queues/default/pause", {}, READER))[0] == 403
    assert refusal(await api.post("/api/queues/default/pause")) == (403, "forbidden")
    assert (await one(api, "queues", "default"))["paused"] is None


async def test_a_wrong_name_or_body_is_refused_with_what_to_send(api: ApiClient) -> None:
    wrong: list[tuple[str, object, int, str]] = [
        ("queues/defualt/pause", {}, 404, "Known: "),
        ("tools/nothing/resume", {}, 404, "There is no tool nothing"),
        ("queues/default/pause", {"reason": 3}, 400, "reason must be a text"),
        ("queues/default/pause", {"reason": "x" * 501}, 400, "500 characters"),
        ("queues/default/pause", {"why": "x"}, 400, "no other fields than reason"),
        ("queues/default/pause", [], 400, "JSON object"),
    ]
    for path, body, status, told in wrong:
        given, reply = await api.send(f"/api/{path}", body, ACTOR)
        assert (given, told in reply["error"]["message"]) == (status, True), reply


async def worker_in(api: ApiClient, state: str, count: int = 1) -> list[Json]:
    """The live workers once there are so many in this state."""
    with anyio.fail_after(30):
        while True:
            workers = (await api.get("/api/workers", READER)).json()["workers"]
            if len([one for one in workers if one["state"] == state]) == count:
                return list(workers)
            await anyio.sleep(0.05)


async def test_a_drained_worker_gives_its_tasks_back_and_takes_none_until_it_is_resumed(api: ApiClient) -> None:
    task_id = await api.mcp(None).task("stay")
    await api.until(task_id, "running")
    (worker,) = await worker_in(api, "working")

    status, shown = await api.send(f"/api/workers/{worker['name']}/drain", {"reason": "new disk"}, ACTOR)
    assert (status, shown["workers"]) == (200, [worker["name"]])
    (drained,) = await worker_in(api, "drained")
    assert (drained["drained"]["reason"], drained["running"]) == ("new disk", 0)
    task = await api.until(task_id, "pending")
    assert (task["reason"], task["drains"]) == ("drain", 1)
    assert (await api.until(await api.mcp(None).task("steps", count=1), "pending"))["started_at"] is None

    assert (await api.send(f"/api/workers/{worker['name'][:9]}/resume", {}, ACTOR))[0] == 200
    await worker_in(api, "working")
    await api.until(task_id, "running")


async def test_an_order_for_a_host_holds_for_workers_that_start_later_and_one_of_them_can_be_excepted(
    api: ApiClient, settings: ServerSettings
) -> None:
    (worker,) = await worker_in(api, "working")
    assert (await api.send(f"/api/workers/{worker['host']}/drain", {}, ACTOR))[0] == 200
    async with working(make_server(settings), settings):
        both = await worker_in(api, "drained", 2)
        later = next(one for one in both if one["name"] != worker["name"])
        await api.send(f"/api/workers/{later['name']}/resume", {}, ACTOR)
        await worker_in(api, "working")
        await api.until(await api.mcp(None).task("steps", count=1), "completed")
        assert (await api.send(f"/api/workers/{worker['host']}/resume", {}, ACTOR))[0] == 200
        await worker_in(api, "working", 2)


async def test_the_slots_of_a_worker_change_while_it_works_and_without_the_message(
    api: ApiClient, redis: Redis, settings: ServerSettings
) -> None:
    (worker,) = await worker_in(api, "working")
    path = f"/api/workers/{worker['name']}/slots"
    await api.send(path, {"slots": 1}, ACTOR)
    with anyio.fail_after(30):
        while (await worker_in(api, "working"))[0]["slots"] != 1:
            await anyio.sleep(0.05)
    tasks = [await api.mcp(None).task("stay") for _ in range(2)]
    await api.until(tasks[0], "running")
    assert (await api.get(f"/api/tasks/{tasks[1]}")).json()["status"] == "pending"

    order = json.dumps({"value": 2, "by": "", "at_ms": 0, "reason": ""})
    await redis.hset("{taskmill}:orders", f"slots {worker['name']}", order)  # type: ignore[misc]
    await api.until(tasks[1], "running")
    assert (await api.send(path, {"slots": None}, ACTOR))[1]["slots"] is None
    with anyio.fail_after(30):
        while (await worker_in(api, "working"))[0]["slots"] != worker["configured"]:
            await anyio.sleep(0.05)


async def test_a_wrong_worker_or_number_is_refused_with_what_to_send(api: ApiClient) -> None:
    (worker,) = await worker_in(api, "working")
    wrong: list[tuple[str, object, int, str]] = [
        ("nobody/drain", {}, 404, "Live workers: "),
        ("{name}/slots", {}, 400, "must have slots"),
        ("{name}/slots", {"slots": 0}, 400, "from 1 to 10,000"),
        ("{name}/slots", {"slots": True}, 400, "from 1 to 10,000"),
        ("{name}/slots", {"slots": "many"}, 400, "from 1 to 10,000"),
        ("{name}/drain", {"reason": []}, 400, "reason must be a text"),
        ("{name}/drain", {"reason": "x" * 501}, 400, "500 characters"),
    ]
    for path, body, status, told in wrong:
        given, reply = await api.send(f"/api/workers/{path.format(name=worker['name'])}", body, ACTOR)
        assert (given, told in reply["error"]["message"]) == (status, True), reply
