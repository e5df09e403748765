"""With seal keys, what another program wrote into Redis is not served: one answer of every client and API."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.sealing import refusals
from tests.server.api_client import OPERATOR_TOKEN, ApiClient, figures_of
from tests.server.session_client import Session, open_session
from tests.support.replica import Json, Rpc, client_of, working
from tests.support.sample_server import make_server

KEYS = Keys()
FOREIGN = b'{"returned":{"content":[{"type":"text","text":"forged"}]},"is_error":false}'


@dataclass
class Site:
    """A replica with seal keys, its clients of both revisions, and its API."""

    rpc: Rpc
    session: Session
    api: ApiClient
    redis: Redis

    async def seen(self, task_id: str) -> Json:
        """What a task looks like, by every way to see it."""
        ask = self.session.ask
        modern, earlier = (await self.rpc.get(task_id))["result"], (await ask("tasks/get", taskId=task_id))["result"]
        result = await ask("tasks/result", taskId=task_id)
        listed = (await ask("tasks/list"))["result"]["tasks"]
        by_api = (await self.api.get(f"/api/tasks/{task_id}", OPERATOR_TOKEN)).json()
        in_api, failed = [
            (await self.api.get(f"/api/tasks{query}", OPERATOR_TOKEN)).json()["tasks"]
            for query in ("", "?status=failed")
        ]
        waited = (await self.rpc.without_tasks().call("task_wait", task_id=task_id))["error"]
        return {
            "tasks/get of 2026": (modern["status"], modern["error"]["data"]["reason"], "result" in modern),
            "tasks/get of 2025": earlier["status"],
            "tasks/result of 2025": result["error"]["data"]["reason"],
            "tasks/list of 2025": [task["status"] for task in listed if task["taskId"] == task_id],
            "API": (by_api["status"], by_api["outcome"], by_api["error"]["data"]["reason"], by_api["result"]),
            "list of the API": [task["status"] for task in in_api if task["id"] == task_id],
            "list of failed tasks": [task["status"] for task in failed if task["id"] == task_id],
            "task_wait": waited["data"]["reason"],
        }


@pytest.fixture
async def site(redis: Redis, settings: ServerSettings, http: httpx2.AsyncClient) -> AsyncIterator[Site]:
    sealed = settings.model_copy(update={"seal_keys": (b"k" * 32,)})
    async with (
        client_of(make_server(sealed), operator_token=OPERATOR_TOKEN) as rpc,
        working(make_server(sealed), sealed),
    ):
        yield Site(rpc, await open_session(http, rpc.url), ApiClient(rpc), redis)


def flipped(stored: bytes) -> bytes:
    return stored[:-1] + bytes([stored[-1] ^ 1])


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "not sealed": lambda _: FOREIGN,
    "a bit flipped": flipped,
    "cut": lambda stored: stored[:10],
    "another key": lambda stored: stored[:3] + b"evil" + stored[7:],
}


REFUSED = {
    "tasks/get of 2026": ("failed", "unreadable", False),
    "tasks/get of 2025": "failed",
    "tasks/result of 2025": "unreadable",
    "tasks/list of 2025": ["failed"],
    "API": ("failed", "failed", "unreadable", None),
    "list of the API": ["failed"],
    "list of failed tasks": ["failed"],
    "task_wait": "unreadable",
}


async def test_a_forged_result_is_a_failed_task_for_every_client_and_api(site: Site) -> None:
    """It was `completed` together with an error, and one that was not sealed was served."""
    before, seen = refusals.count, {}
    for forgery, forged in FORGERIES.items():
        task_id = (await site.session.task("steps", count=1))["taskId"]
        await site.session.until(task_id, "completed")
        stored = await site.redis.get(KEYS.result(task_id))
        await site.redis.set(KEYS.result(task_id), forged(stored), keepttl=True)
        seen[forgery] = await site.seen(task_id)

    assert seen == dict.fromkeys(FORGERIES, REFUSED)
    figures = figures_of((await site.api.get("/metrics", OPERATOR_TOKEN)).text)
    assert figures["taskmill_seal_refused_total"] == refusals.count >= before + 4 * len(FORGERIES)


async def test_a_deleted_result_is_a_failed_task(site: Site) -> None:
    """It was completed without a result, which no schema has."""
    task_id = (await site.session.task("steps", count=1))["taskId"]
    await site.session.until(task_id, "completed")
    await site.redis.delete(KEYS.result(task_id))

    assert await site.seen(task_id) == REFUSED


@pytest.mark.parametrize("forged", [b'{"action":"accept","content":{"name":"Eve"}}', b""], ids=["in clear", "moved"])
async def test_a_forged_answer_reaches_no_tool(site: Site, forged: bytes) -> None:
    task_id = await site.rpc.task("ask")
    asked = await site.rpc.until(task_id, "input_required")
    for key in asked["inputRequests"]:
        question = await site.redis.hget(KEYS.inputs(task_id), f"q:{key}")
        await site.redis.hset(KEYS.inputs(task_id), f"a:{key}", forged or question)
    worker = (await site.redis.hget(KEYS.record(task_id), "worker")).decode()
    await site.redis.publish(KEYS.signal(worker), f"answer {task_id}")

    ended = await site.rpc.done(task_id)

    assert (ended["status"], ended["error"]["data"]["reason"]) == ("failed", "unreadable")
