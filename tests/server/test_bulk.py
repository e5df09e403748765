"""Many tasks at once, over HTTP: counted first, then done page by page, to what was counted and to nothing else."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskmill.engine.outcome import Refused
from taskmill.server.api import bulk as bulk_module
from taskmill.server.settings import ServerSettings
from tests.server.api_client import ApiClient
from tests.support.replica import Json, client_of
from tests.support.sample_server import make_server
from tests.support.store_fixture import StoreFixture, question

READER, ACTOR = "r" * 16, "a" * 16


@pytest.fixture
async def api(redis: Redis, settings: ServerSettings) -> AsyncIterator[ApiClient]:
    """A replica with operators of two roles."""
    settings = settings.model_copy(update={"operator_tokens": f"read:{READER} act:{ACTOR}"})
    async with client_of(make_server(settings)) as rpc:
        yield ApiClient(rpc)


@pytest.fixture
def stores(redis: Redis, settings: ServerSettings) -> StoreFixture:
    """The tasks, from below."""
    return StoreFixture(redis, settings)


async def test_many_tasks_are_counted_and_then_cancelled_in_pages_and_none_that_came_later(
    api: ApiClient, stores: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_module, "_PAGE", 3)
    wanted = [await stores.create(tool="import") for _ in range(8)]
    others = [await stores.create(tool="export"), (await stores.start(tool="export")).id]
    ended = await stores.start(tool="import", id="ended")
    await stores.finish(ended)

    status, counted = await api.send("/api/bulk", {"action": "cancel", "where": {"tool": "import"}}, ACTOR)
    assert (status, counted["count"], counted["where"]) == (200, 8, {"tool": "import"})
    await stores.wait_until_ms(await stores.now_ms() + 1)
    later = await stores.create(tool="import")
    first = await api.send("/api/bulk/run", {"token": counted["token"]}, ACTOR)
    assert first[1]["done"] == 3
    assert first[1]["token"]

    token = first[1]["token"]
    while token:
        token = (await api.send("/api/bulk/run", {"token": token}, ACTOR))[1]["token"]

    assert {(await stores.record(task_id)).status for task_id in wanted} == {"cancelled"}
    assert {(await stores.record(task_id)).status for task_id in (*others, later)} == {"pending", "running"}
    assert (await api.send("/api/bulk", {"action": "cancel", "where": {"tool": "import"}}, ACTOR))[1]["count"] == 1


async def test_failed_tasks_are_run_again_once_however_often_it_is_said(api: ApiClient, stores: StoreFixture) -> None:
    failed = [await stores.start() for _ in range(3)]
    for task in failed:
        await stores.finish(task, Refused(-1, "disk full"))
    await stores.finish(await stores.start())

    body = {"action": "rerun", "where": {"status": ["failed"], "text": "DISK"}}
    _, counted = await api.send("/api/bulk", body, ACTOR)
    assert counted["count"] == 3
    for _ in range(2):
        status, _ = await api.send("/api/bulk/run", {"token": counted["token"]}, ACTOR)
        assert status == 200

    assert (await stores.store.stats(["default"])).open == 3
    assert (await api.send("/api/bulk", body, ACTOR))[1]["count"] == 0
    assert (await api.send("/api/bulk", {"action": "rerun", "all": True}, ACTOR))[1]["count"] == 0


async def test_an_action_to_which_no_wanted_task_is_open_counts_none(api: ApiClient, stores: StoreFixture) -> None:
    await stores.create()
    for action, where in (("cancel", {"status": "failed"}), ("rerun", {"outcome": "succeeded"})):
        _, counted = await api.send("/api/bulk", {"action": action, "where": where}, ACTOR)
        assert counted["count"] == 0
        assert (await api.send("/api/bulk/run", {"token": counted["token"]}, ACTOR))[1] == {
            "action": action,
            "done": 0,
            "failed": [],
            "token": None,
        }


async def test_what_could_be_meant_otherwise_is_refused_and_nothing_is_done(
    api: ApiClient, stores: StoreFixture
) -> None:
    task_id = await stores.create()
    wrong: list[tuple[str, Json, str]] = [
        ("", {"action": "cancel"}, 'say so with "all": true'),
        ("", {"action": "cancel", "where": {}, "all": "yes"}, 'say so with "all": true'),
        ("", {"action": "delete", "all": True}, "one of cancel, rerun"),
        ("", {"action": "cancel", "where": {"state": "failed"}}, "no 'state'"),
        ("", {"action": "cancel", "where": [1]}, "must be an object"),
        ("", {"action": "cancel", "where": {"since": "soon"}}, "how long ago"),
        ("/run", {"token": "x"}, "Count the tasks again"),
        ("/run", {"token": "é"}, "Count the tasks again"),
        ("/run", {}, "Count the tasks again"),
    ]
    for path, body, told in wrong:
        status, reply = await api.send(f"/api/bulk{path}", body, ACTOR)
        assert (status, told in reply["error"]["message"]) == (400, True), reply
    assert (await stores.record(task_id)).status == "pending"


async def test_only_operators_that_may_act_do_it_and_a_token_ends(
    api: ApiClient, stores: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stores.create()
    body = {"action": "cancel", "all": True}
    assert (await api.send("/api/bulk", body, READER))[0] == 403
    assert (await api.post("/api/bulk")).status_code == 403
    _, counted = await api.send("/api/bulk", body, ACTOR)
    assert (await api.send("/api/bulk/run", {"token": counted["token"]}, READER))[0] == 403
    monkeypatch.setattr(bulk_module, "_VALID_MS", -1)
    assert (await api.send("/api/bulk/run", {"token": counted["token"]}, ACTOR))[0] == 400


async def test_an_operator_answers_a_question_for_the_owner(api: ApiClient, stores: StoreFixture) -> None:
    asking = await stores.start()
    path = f"/api/tasks/{asking.id}/answers"
    answer = {"answers": {"input-1": {"action": "decline"}}}
    assert (await api.send(path, answer, ACTOR))[0] == 409
    request = question(1)
    form = {"message": "sure?", "requestedSchema": {"type": "object", "properties": {}}}
    request.request.update(method="elicitation/create", params=form)
    await stores.ann.ask(asking.id, asking.fence, [request])

    assert (await api.send(path, answer, READER))[0] == 403
    for wrong, told in (({}, "must be an object"), ({"answers": {"input-2": {}}}, "no open question 'input-2'")):
        status, reply = await api.send(path, wrong, ACTOR)
        assert status == 400
        assert told in reply["error"]["message"]
    assert (await api.send(path, {"answers": {"input-1": {"action": "perhaps"}}}, ACTOR))[0] == 400
    status, task = await api.send(path, answer, ACTOR)
    assert (status, task["status"], task["questions"]) == (200, "running", {})


async def test_a_task_whose_arguments_cannot_be_read_does_not_end_the_command_for_the_others(
    api: ApiClient, stores: StoreFixture
) -> None:
    failed = [await stores.start() for _ in range(3)]
    for task in failed:
        await stores.finish(task, Refused(-1, "disk full"))
    await stores.redis.set(stores.keys.args(failed[1].id), b"\x00 of another program")

    _, counted = await api.send("/api/bulk", {"action": "rerun", "where": {"text": "disk"}}, ACTOR)
    status, done = await api.send("/api/bulk/run", {"token": counted["token"]}, ACTOR)

    assert (status, done["done"], [one["id"] for one in done["failed"]]) == (200, 2, [failed[1].id])
