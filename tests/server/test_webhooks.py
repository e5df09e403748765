"""Webhooks of a deployment: which calls have one, and what operators see of them and do."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.server import TaskConfig, TaskServer
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.key_texts import parse_webhook_secrets
from tests.server.api_client import ApiClient, refusal
from tests.support.replica import Json, client_of, working
from tests.support.waiting import eventually_async
from tests.support.webhook_receiver import SECRET, Receiver, receiver

READER, ACTOR = "r" * 16, "a" * 16


@dataclass
class Hooked:
    """A deployment with a webhook, and what receives it."""

    api: ApiClient
    hook: Receiver
    """Of the deployment."""
    own: Receiver
    """Of one tool."""

    async def rows(self, query: str = "") -> list[Json]:
        rows: list[Json] = (await self.api.get(f"/api/webhooks{query}", READER)).json()["webhooks"]
        return rows


def make_server(settings: ServerSettings, own: str) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Shop", store=settings)

    @mcp.tool(task=True)
    async def sell(item: str) -> str:
        return f"sold {item}"

    @mcp.tool(task=TaskConfig(webhook=own))
    async def bill(item: str) -> str:
        return f"billed {item}"

    @mcp.tool(task=TaskConfig(webhook=False))
    async def refresh() -> str:
        return "fresh"

    return mcp


@pytest.fixture
async def hooked(redis: Redis, settings: ServerSettings) -> AsyncIterator[Hooked]:
    """A replica with operators of two roles, a worker, and two receivers."""
    async with receiver() as hook, receiver() as own:
        given = {
            "operator_tokens": f"read:{READER} act,metrics:{ACTOR}",
            "webhook_secret": parse_webhook_secrets(SECRET),
        }
        given |= {"webhook_allow_private": True, "webhook_url": hook.url, "app": "shop"}
        settings = settings.model_copy(update=given)
        worker = working(make_server(settings, own.url), settings, poll=0.05)
        async with client_of(make_server(settings, own.url)) as rpc, worker:
            yield Hooked(ApiClient(rpc), hook, own)


async def test_each_tool_has_its_own_webhook_the_deployments_or_none(hooked: Hooked) -> None:
    mcp = hooked.api.mcp(None)
    await hooked.api.until(await mcp.task("refresh"), "completed")
    sold, billed = await mcp.task("sell", item="tea"), await mcp.task("bill", item="tea")
    (told,), (own,) = await hooked.hook.got(), await hooked.own.got()
    assert (told.message["data"]["id"], own.message["data"]["id"]) == (sold, billed)
    assert (told.message["data"]["app"], told.message["data"]["tool"]) == ("shop", "sell")
    assert told.is_signed_with(SECRET)
    assert await eventually_async(hooked.rows, lambda rows: rows == []) == []
    assert len(hooked.hook.received) == 1


async def test_operators_see_what_is_not_delivered_and_those_who_may_act_have_it_tried_again(hooked: Hooked) -> None:
    hooked.hook.will_answer(410)
    task_id = await hooked.api.mcp(None).task("sell", item="tea")
    (row,) = await eventually_async(lambda: hooked.rows("?state=given_up"), lambda rows: rows)
    expected = {"id": task_id, "tool": "sell", "app": "shop", "queue": "default", "outcome": "succeeded", "tries": 1}
    assert expected.items() <= row.items()
    assert (row["state"], row["error"], row["next_at"]) == ("given_up", "127.0.0.1 answered 410", None)
    assert await hooked.rows("?state=waiting") == []
    assert "taskmill_webhooks_undelivered 1.0" in (await hooked.api.get("/metrics", ACTOR)).text

    assert (await hooked.api.send(f"/api/webhooks/{task_id}/retry", {}, READER))[0] == 403
    assert await hooked.api.send(f"/api/webhooks/{task_id}/retry", {}, ACTOR) == (200, {"name": task_id, "retried": 1})
    await hooked.hook.got(2)
    await eventually_async(hooked.rows, lambda rows: rows == [])
    assert (await hooked.api.send(f"/api/webhooks/{task_id}/retry", {}, ACTOR))[0] == 404
    assert await hooked.api.send("/api/webhooks/retry", {}, ACTOR) == (200, {"name": "all", "retried": 0})


async def test_callers_see_none_of_them_and_a_wrong_state_is_refused_with_the_right_ones(hooked: Hooked) -> None:
    assert refusal(await hooked.api.get("/api/webhooks")) == (403, "forbidden")
    assert refusal(await hooked.api.post("/api/webhooks/retry")) == (403, "forbidden")
    wrong = await hooked.api.get("/api/webhooks?state=lost", READER)
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (400, "state must be one of waiting, given_up.")
