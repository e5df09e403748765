"""A question that is open when its worker dies is asked once, for every class of client.

The next attempt waits for the same answer, which is an event of its own; workers are played by the test, so that the
one dies in time.
"""

from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from taskmill.store.claims.claims import Claimed, Question
from tests.server.session_client import Session, next_message, open_session, rest
from tests.support.replica import Json, Rpc, serving
from tests.support.sample_server import Person, make_server
from tests.support.store_fixture import DONE, StoreFixture

FORM = {"mode": "form", "message": "Who are you?", "requestedSchema": Person.model_json_schema()}
ASKED = Question("input-1", "digest", {"method": "elicitation/create", "params": FORM})
ANN = {"action": "accept", "content": {"name": "Ann"}}


@pytest.fixture
async def url(redis: Redis, settings: ServerSettings) -> AsyncIterator[str]:
    """A replica, and no worker."""
    async with serving(make_server(settings).http_app()) as address:
        yield address + "/mcp"


async def asks(stores: StoreFixture, task_id: str | None = None) -> Claimed:
    """A worker takes the one task and asks."""
    with anyio.fail_after(30):
        while not (known := [task_id] if task_id else await stores.redis.zrange(stores.keys.live, 0, 0)):
            await anyio.sleep(0.01)
    named = known[0] if isinstance(known[0], str) else known[0].decode()
    claimed = await stores.take(named)
    await stores.ann.ask(named, claimed.fence, [ASKED])
    return claimed


async def dies(stores: StoreFixture, claimed: Claimed) -> Claimed:
    """Its lease runs out, another worker takes the task, and its tool comes to the same question."""
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)
    await stores.bob.ask(again.id, again.fence, [ASKED])
    assert (await stores.moves(again.id))[-4:] == ["claim", "ask", "reclaim", "ask"]
    return again


async def heard(session: Session, stores: StoreFixture, method: str, **params: object) -> list[Json]:
    """The messages on the stream of a request, on which the question comes and is answered."""
    task_id = params.get("taskId")
    async with session.streaming(method, **params) as frames:
        claimed = await asks(stores, task_id if isinstance(task_id, str) else None)
        messages = [await next_message(frames)]
        again = await dies(stores, claimed)
        await session.reply(messages[0], ANN)
        with anyio.fail_after(30):
            while (await stores.record(again.id)).questions:
                await anyio.sleep(0.01)
        await stores.finish(again, DONE)
        return messages + [frame.message for frame in await rest(frames)]


async def test_by_a_held_call(url: str, http: httpx2.AsyncClient, stores: StoreFixture) -> None:
    session = await open_session(http, url)

    question, response = await heard(session, stores, "tools/call", name="greet_late", arguments={})

    assert (question["method"], response["result"]["content"][0]["text"]) == ("elicitation/create", "done")


async def test_by_the_result_of_a_task_of_2025(url: str, http: httpx2.AsyncClient, stores: StoreFixture) -> None:
    session = await open_session(http, url)
    task = await session.task("greet_late")

    question, response = await heard(session, stores, "tasks/result", taskId=task["taskId"])

    assert (question["method"], response["result"]["content"][0]["text"]) == ("elicitation/create", "done")


async def test_by_a_task_of_2026(url: str, http: httpx2.AsyncClient, stores: StoreFixture) -> None:
    """The same key says that it is the same question."""
    rpc = Rpc(http, url)
    task_id = await rpc.task("greet_late")
    claimed = await asks(stores, task_id)
    before = (await rpc.get(task_id))["result"]

    await dies(stores, claimed)

    assert (await rpc.get(task_id))["result"]["inputRequests"] == before["inputRequests"] == {"input-1": ASKED.request}
