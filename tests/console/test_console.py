"""The console over HTTP: who gets in, what the pages show, and what they do only after they were asked again."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from taskmill.console.login import COOKIE
from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.engine.record import Progress
from taskmill.engine.status import Status
from taskmill.server.settings import ServerSettings
from taskmill.server.streams import event_stream
from taskmill.store.claims.claims import Question
from taskmill.store.tasks.pauses import Pausable
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.console_visitor import ACTOR, HOSTILE, READER, SHOWN, log_in, visitor
from tests.support.replica import working
from tests.support.sample_server import make_server
from tests.support.store_fixture import OWNER, StoreFixture


async def failed(stores: StoreFixture, **changes: Any) -> str:
    task = await stores.start(**changes)
    await stores.finish(task, Failed(Fault.TIMEOUT, "too long"))
    return task.id


async def status_of(stores: StoreFixture, task_id: str) -> Status:
    return (await stores.store.read(task_id, OPERATOR)).record.status


PAGES = ("/", "/tasks", "/dead-letters", "/queues", "/schedules", "/webhooks", "/workers", "/settings")


async def test_every_page_leads_to_the_login_and_back(stores: StoreFixture, settings: ServerSettings) -> None:
    async with visitor(stores, settings) as client:
        for path in (*PAGES, "/tasks?tool=count", "/tasks/some"):
            refused = await client.get(f"/console{path}")
            assert (refused.status_code, refused.headers["location"][:20]) == (303, "/console/login?next="), path
        entered = await log_in(client, READER, "/tasks?tool=count")
        assert entered.headers["location"] == "/console/tasks?tool=count"
        assert re.search(r"HttpOnly.*SameSite=strict", entered.headers["set-cookie"], re.IGNORECASE)
        assert READER not in entered.headers["set-cookie"]
        assert [(await client.get(f"/console{path}")).status_code for path in PAGES] == [200] * len(PAGES)
        await client.post("/console/logout")
        assert (await client.get("/console/")).status_code == 303


async def test_only_a_token_that_is_good_now_is_let_in(
    stores: StoreFixture, settings: ServerSettings, tmp_path: Path
) -> None:
    file = tmp_path / "operators"
    file.write_text(f"read:{READER}\nmetrics:{'m' * 16}\n")
    changed = settings.model_copy(update={"operator_tokens": "", "operator_tokens_file": file})
    async with visitor(stores, changed) as client:
        for token in ("", "wrong-wrong-wrong", "m" * 16, "\ud83d" * 20):
            assert (await log_in(client, token.encode("utf-8", "replace").decode())).status_code == 403
            assert COOKIE not in client.cookies
        await log_in(client, READER)
        assert (await client.get("/console/tasks")).status_code == 200
        file.write_text("read:another-another-one\n")
        assert (await client.get("/console/tasks")).status_code == 303, "its token is gone, and so is the login"


async def test_a_live_page_gets_no_more_soon_after_its_login_has_ended(
    stores: StoreFixture, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "COMMENT_EVERY", 0.05)
    async with visitor(stores, settings, lasts=1) as client:
        await log_in(client, READER)
        with anyio.fail_after(20):
            streamed = await client.get("/console/live/overview")
        assert (streamed.status_code, streamed.text[:6]) == (200, "data: ")


async def test_a_forged_or_old_cookie_is_no_login(stores: StoreFixture, settings: ServerSettings) -> None:
    async with visitor(stores, settings, lasts=-1) as client:
        entered = await log_in(client, READER)
        (old,) = re.findall(rf"{COOKIE}=([^;]+)", entered.headers["set-cookie"])
        for cookie in (old, "", "AAAA", "é", old[:-2] + "AA", "A" * 200):
            refused = await client.get("/console/tasks", headers={"cookie": f"{COOKIE}={cookie}".encode()})
            assert refused.status_code == 303, cookie


async def test_the_login_leads_to_no_other_site(stores: StoreFixture, settings: ServerSettings) -> None:
    async with visitor(stores, settings) as client:
        for back in ("//evil.example", "/\\evil.example", "https://evil.example", "evil"):
            assert (await log_in(client, READER, back)).headers["location"] == "/console/", back


async def test_what_a_page_of_another_site_sends_does_nothing(page: httpx2.AsyncClient, stores: StoreFixture) -> None:
    task_id = await stores.create()
    for origin in ("https://evil.example", "null", "http://localhost:8001", ""):
        refused = await page.post(f"/console/tasks/{task_id}/cancel", headers={"origin": origin})
        assert refused.status_code == 403, origin
    assert await status_of(stores, task_id) is Status.PENDING


async def test_a_login_that_has_ended_does_nothing_and_says_so(page: httpx2.AsyncClient, stores: StoreFixture) -> None:
    task_id = await stores.create()
    page.cookies.clear()
    refused = await page.post(f"/console/tasks/{task_id}/cancel")
    assert (refused.status_code, refused.headers["location"]) == (303, "/console/login?next=/&ended=1")
    assert "Nothing was done" in (await page.get(refused.headers["location"])).text
    assert (await page.get("/console/live/overview", headers={"accept": "text/event-stream"})).status_code == 401
    assert await status_of(stores, task_id) is Status.PENDING


async def test_an_operator_who_may_only_read_changes_nothing(stores: StoreFixture, settings: ServerSettings) -> None:
    task_id, broken = await stores.create(), await failed(stores)
    async with visitor(stores, settings) as client:
        await log_in(client, READER)
        for path in (
            f"tasks/{task_id}/cancel",
            f"tasks/{broken}/rerun",
            "bulk/cancel?tool=count",
            "queues/default/pause",
        ):
            refused = await client.post(f"/console/{path}", data={"count": "1"})
            assert (refused.status_code, "role act" in refused.text) == (403, True)
        assert "Cancel" not in (await client.get(f"/console/tasks/{task_id}")).text
    assert await status_of(stores, task_id) is Status.PENDING
    assert await stores.store.pauses() == []


async def test_a_proxy_may_send_the_token_with_each_request(stores: StoreFixture, settings: ServerSettings) -> None:
    async with visitor(stores, settings) as client:
        shown = await client.get("/console/tasks", headers={"authorization": f"Bearer {READER}"})
        assert (shown.status_code, "Log out" in shown.text) == (200, False)


async def test_hostile_text_is_shown_and_never_sent(page: httpx2.AsyncClient, stores: StoreFixture) -> None:
    task = await stores.start(tool=HOSTILE)
    await stores.report((task.id, task.fence, Progress(1, 2, HOSTILE)))
    asked = {
        "method": "elicitation/create",
        "params": {"message": HOSTILE, "requestedSchema": {}},
    }
    await stores.ann.ask(task.id, task.fence, [Question("input-1", "digest", asked)])
    for path in (f"/tasks/{task.id}", "/tasks", f"/tasks/{task.id}/cancel", "/queues", f"/tasks/{task.id}/part"):
        shown = await page.get(f"/console{path}")
        assert shown.status_code == 200
        assert not set("\x1b\x00\u202e") & set(shown.text), path
        assert "<script>alert" not in shown.text, path
    assert SHOWN in (await page.get(f"/console/tasks/{task.id}")).text


async def test_everything_comes_with_a_policy_that_runs_nothing_else(page: httpx2.AsyncClient) -> None:
    for path in ("/", "/static/console.js", "/static/console.css", "/login", "/nothing", "/tasks/unknown"):
        shown = await page.get(f"/console{path}")
        policy = shown.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'" in policy, path
        assert "unsafe" not in policy
        assert not re.search(
            r"<script(?! type=\"module\" src=)|style=|onclick=|https?://", shown.text.partition("*/")[0]
        ), path


async def test_cancel_and_rerun_are_asked_for_and_then_done(page: httpx2.AsyncClient, stores: StoreFixture) -> None:
    task_id, broken = await stores.create(), await failed(stores)
    assert (await page.get(f"/console/tasks/{task_id}/cancel")).status_code == 200
    assert await status_of(stores, task_id) is Status.PENDING, "a page that is only looked at does nothing"
    done = await page.post(f"/console/tasks/{task_id}/cancel")
    assert "was cancelled" in (await page.get(done.headers["location"])).text
    assert await status_of(stores, task_id) is Status.CANCELLED
    again = await page.post(f"/console/tasks/{task_id}/cancel")
    assert "already ended" in (await page.get(again.headers["location"])).text
    rerun = await page.post(f"/console/tasks/{broken}/rerun")
    shown = await page.get(rerun.headers["location"])
    assert "runs again" in shown.text
    assert (await stores.store.read(broken, OPERATOR)).rerun_as in shown.url.path
    refused = await page.post(f"/console/tasks/{shown.url.path.rpartition('/')[2]}/rerun")
    assert refused.status_code == 409, "it has not ended"


async def test_a_question_is_answered_by_a_form_and_a_wrong_answer_leaves_it_open(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    fields = {"sure": {"type": "boolean"}, "count": {"type": "integer", "minimum": 1}, "why": {"type": "string"}}
    schema = {"type": "object", "properties": fields, "required": ["sure", "count"]}
    asked = {"method": "elicitation/create", "params": {"message": "Delete all?", "requestedSchema": schema}}
    task = await stores.start(principal=OWNER)
    await stores.ann.ask(task.id, task.fence, [Question("input-1", "digest", asked)])
    path = f"/console/tasks/{task.id}"
    assert "Delete all?" in (await page.get(path)).text
    for wrong in ({"field.count": "many"}, {"field.sure": "true", "field.count": "0"}, {"key": "input-9"}):
        refused = await page.post(f"{path}/answer", data={"key": "input-1", **wrong})
        assert refused.status_code == 400, wrong
    answer = {"key": "input-1", "action": "accept", "field.sure": "true", "field.count": "3", "field.why": ""}
    assert (await page.post(f"{path}/answer", data=answer)).status_code == 303
    (given,) = await stores.ann.ask(task.id, task.fence, [Question("input-1", "digest", asked)])
    assert given == {"action": "accept", "content": {"sure": True, "count": 3}}


async def test_a_queue_and_a_tool_are_paused_with_name_and_reason(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    await stores.create()
    assert (await page.get("/console/queues/default/pause")).status_code == 200
    await page.post("/console/queues/default/pause", data={"reason": "upgrade <b>"})
    (pause,) = await stores.store.pauses()
    assert (pause.kind, pause.name, pause.by, pause.reason) == (Pausable.QUEUE, "default", "ada", "upgrade <b>")
    shown = (await page.get("/console/queues")).text
    assert "by ada: upgrade &lt;b&gt;" in shown
    assert (await stores.claim()).tasks == []
    await page.post("/console/queues/default/resume")
    assert await stores.store.pauses() == []
    assert (await page.post("/console/queues/none/pause")).status_code in (400, 404)


async def test_many_tasks_are_changed_only_those_that_were_shown(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    kept = await stores.create(tool="other")
    ids = [await stores.create() for _ in range(3)]
    asked = (await page.get("/console/bulk/cancel?tool=count")).text
    assert "Cancel 3 tasks" in asked
    newer = await stores.create()
    for wrong in ("", "made up", token_in(asked)[:-3] + "AAA"):
        assert (await page.post("/console/bulk/cancel?tool=count", data={"token": wrong})).status_code == 400
    all_of_them = (await page.get("/console/bulk/cancel")).text
    assert "these are all tasks" in all_of_them
    unsure = await page.post("/console/bulk/cancel", data={"token": token_in(all_of_them)})
    assert (unsure.status_code, "not confirmed" in unsure.text) == (400, True)
    assert [await status_of(stores, one) for one in ids] == [Status.PENDING] * 3
    done = await page.post("/console/bulk/cancel?tool=count", data={"token": token_in(asked)})
    assert "3 cancelled" in done.text
    assert [await status_of(stores, one) for one in ids] == [Status.CANCELLED] * 3
    assert [await status_of(stores, one) for one in (kept, newer)] == [Status.PENDING] * 2


def token_in(html: str) -> str:
    return re.findall(r'name="token" value="([^"]+)"', html)[0]


async def test_a_filter_is_kept_in_the_address_and_a_wrong_one_is_told_in_words(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    broken, fine = await failed(stores, tool="one", client_name="a\N{CEDILLA}<b>"), await stores.create(tool="two")
    for words in ("outcome=failed&tool=one", "client=a%C2%B8%3Cb%3E"):
        shown = (await page.get(f"/console/tasks?{words}")).text
        assert (broken[:10] in shown, fine[:10] in shown) == (True, False), words
    assert 'value="a\N{CEDILLA}&lt;b&gt;"' in shown
    assert 'href="/console/tasks?client=a%C2%B8%3Cb%3E"' in (await page.get(f"/console/tasks/{broken}")).text
    refused = await page.get("/console/tasks?since=yesterday")
    assert (refused.status_code, "how long ago" in refused.text) == (400, True)
    for path in ("/tasks?cursor=nonsense", "/tasks/" + "x" * 300, "/none/x/pause", "/bulk/delete", "/live/none"):
        assert (await page.get(f"/console{path}")).status_code in (400, 404), path


async def test_a_filter_looks_through_thousands_of_tasks_for_one_page(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    wanted = await stores.create(tool="dig")
    async with stores.redis.pipeline() as pipe:
        for number in range(1500):
            pipe.hset(stores.keys.record(f"filler-{number}"), mapping={"tool": "count", "status": "pending"})
            pipe.zadd(stores.keys.all, {f"filler-{number}": 1e15 + number})
        await pipe.execute()

    shown = (await page.get("/console/tasks?tool=dig")).text

    assert wanted[:10] in shown
    await stores.redis.zremrangebyscore(stores.keys.all, 1e15, "+inf")
    await stores.redis.delete(*(stores.keys.record(f"filler-{number}") for number in range(1500)))


async def test_a_file_of_a_task_is_linked_and_saved_and_never_shown_as_a_page(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"<script>alert(1)</script>"

    task = await stores.start()
    made = {"task_id": task.id, "principal": OWNER, "name": f"{HOSTILE}.html", "mime_type": "text/html"}
    artifact = await stores.store.artifacts.write(content(), **made)
    await stores.store.artifacts.attach(artifact, task.fence)
    foreign = {"type": "resource_link", "uri": "https://example.com/x", "name": "foreign"}
    odd = {"type": "resource_link", "uri": f"{artifact.uri}x", "size": "many"}
    link = {"type": "resource_link", "uri": artifact.uri, "name": artifact.name, "size": artifact.size}
    await stores.finish(task, Returned({"content": [foreign, odd, link]}))

    shown = (await page.get(f"/console/tasks/{task.id}")).text
    (address,) = re.findall(rf'<a href="([^"]*)" download>{re.escape(SHOWN)}.html</a>, 25 bytes', shown)
    saved = await page.get(address)

    assert shown.count(" download>") == 2
    assert (saved.status_code, saved.content) == (200, b"<script>alert(1)</script>")
    assert saved.headers["content-disposition"].startswith("attachment;")
    assert saved.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (await page.get(f"{address}x")).status_code == 404


async def test_a_worker_is_drained_resumed_and_given_slots(stores: StoreFixture, settings: ServerSettings) -> None:
    async with working(make_server(settings), settings), visitor(stores, settings) as client:
        await log_in(client, ACTOR)
        (name,) = [one["worker"] for one in await stores.store.workers()]
        for action in ("drain", "slots"):
            assert (await client.get(f"/console/workers/{name}/{action}")).status_code == 200
        (orders,) = await stores.store.worker_orders([{"worker": name}])
        assert not orders.is_drained
        assert orders.slots is None
        await client.post(f"/console/workers/{name}/drain", data={"reason": "new <disk>"})
        await client.post(f"/console/workers/{name}/slots", data={"slots": "3"})
        (orders,) = await stores.store.worker_orders([{"worker": name}])
        assert orders.is_drained
        assert orders.slots is not None
        assert (orders.slots.value, orders.slots.by) == (3, "ada")
        assert "by ada: new &lt;disk&gt;" in (await client.get("/console/workers")).text
        await client.post(f"/console/workers/{name}/resume")
        assert not (await stores.store.worker_orders([{"worker": name}]))[0].is_drained
        for path, fields in (("none/drain", {}), (f"{name}/slots", {"slots": "many"}), (f"{name}/stop", {})):
            refused = await client.post(f"/console/workers/{path}", data={"reason": "", **fields})
            assert refused.status_code in (400, 404), path
