"""The HTTP API for people and scripts: one task, lists of tasks, cancel and rerun."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.server import TaskConfig
from taskmill.store.formats.keys import Keys
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from tests.server.api_client import ADA, BOB, OPERATOR_TOKEN, POST, ApiClient, figures_of, refusal
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


@pytest.fixture
async def site(redis: Redis, settings: StoreSettings) -> AsyncIterator[ApiClient]:
    """Without authentication, with an operator and a worker."""
    app = make_server(settings)
    async with client_of(app, operator_token=OPERATOR_TOKEN) as rpc, working(make_server(settings), settings):
        yield ApiClient(rpc)


class TestOneTask:
    async def test_a_completed_task_shows_everything_that_is_known_of_it(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("steps", count=2)

        task = await site.until(task_id, "completed")

        created, started, ended, expires = [
            datetime.fromisoformat(task[f"{name}_at"]) for name in ("created", "started", "ended", "expires")
        ]
        assert created <= started <= ended
        assert expires == ended + timedelta(hours=24)
        assert task == {
            "id": task_id,
            "tool": "steps",
            "queue": "default",
            "status": "completed",
            "outcome": "succeeded",
            "status_text": "completed",
            "percent": 100,
            "progress": {"done": 2.0, "total": 2.0, "message": "step 2 of 2"},
            "ahead": None,
            "open_questions": 0,
            "attempts": 1,
            "failures": 0,
            "retries": 0,
            "crashes": 0,
            "drains": 0,
            "reason": None,
            **{name: task[name] for name in ("created_at", "started_at", "updated_at", "ended_at", "expires_at")},
            "due_at": None,
            "deadline_at": None,
            "last_event": task["last_event"],
            "rerun_of": None,
            "rerun_as": None,
            "result": {
                "content": [{"type": "text", "text": '{\n  "steps": 2\n}'}],
                "structuredContent": {"steps": 2},
                "isError": False,
                "resultType": "complete",
            },
            "error": None,
            "questions": {},
        }

    async def test_a_running_task_shows_how_far_it_is(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("stay")
        with anyio.fail_after(30):
            while (task := (await site.get(f"/api/tasks/{task_id}")).json())["percent"] is None:
                await anyio.sleep(0.01)

        assert (task["status"], task["percent"], task["status_text"]) == ("running", 25, "settling in (25%)")
        assert (task["ended_at"], task["expires_at"], task["result"]) == (None, None, None)

    async def test_a_failed_task_shows_its_error_and_a_tools_own_error_is_a_result(self, site: ApiClient) -> None:
        refused = await site.until(await site.rpc.task("complain", how="protocol"), "failed")
        answered = await site.until(await site.rpc.task("complain", how="tool"), "completed")

        assert refused["error"] == {"code": -32050, "message": "no such printer", "data": {"printer": 7}}
        assert (refused["result"], refused["status_text"]) == (None, "no such printer")
        crashed = await site.until(await site.rpc.task("complain", how="crash"), "completed")
        assert [each["outcome"] for each in (refused, answered, crashed)] == ["failed", "tool_error", "crashed"]
        listed = (await site.get("/api/tasks?outcome=crashed,tool_error", OPERATOR_TOKEN)).json()["tasks"]
        assert [each["id"] for each in listed] == [crashed["id"], answered["id"]]
        unknown = await site.get("/api/tasks?outcome=crash", OPERATOR_TOKEN)
        assert unknown.status_code == 400
        assert "outcome must be some of succeeded, tool_error, crashed, failed, cancelled" in unknown.text
        assert (answered["reason"], answered["status_text"]) == ("tool_error", "the tool reported an error")
        assert answered["result"]["isError"] is True

    async def test_an_asking_task_shows_its_questions(self, site: ApiClient) -> None:
        asking = await site.rpc.task("ask")
        while len((task := await site.until(asking, "input_required"))["questions"]) < 2:
            await asyncio.sleep(0.01)

        assert task["open_questions"] == 2
        assert {asked["method"] for asked in task["questions"].values()} == {"elicitation/create"}

    async def test_the_history_comes_when_it_is_asked_for_and_from_any_event(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("steps", count=1)
        task = await site.until(task_id, "completed")

        whole = (await site.get(f"/api/tasks/{task_id}?history=1")).json()
        part = (await site.get(f"/api/tasks/{task_id}?history=1&after=2")).json()

        assert {**task, "events": whole["events"]} == whole
        assert [event["event"] for event in whole["events"]] == list(range(1, task["last_event"] + 1))
        assert part["events"] == whole["events"][2:]
        first, last = whole["events"][0], whole["events"][-1]
        assert first == {
            "event": 1,
            "move": "create",
            "status": "pending",
            "at": task["created_at"],
            "facts": {"tool": "steps", "queue": "default", "retention_ms": 86_400_000, "poll_ms": 1000},
        }
        assert (last["move"], last["status"], last["at"]) == ("complete", "completed", task["ended_at"])

    async def test_no_cache_may_keep_an_answer(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("stay")

        assert (await site.get(f"/api/tasks/{task_id}")).headers["cache-control"] == "no-store"

    async def test_an_unknown_task_is_not_found_whatever_is_asked_of_it(self, site: ApiClient) -> None:
        for task_id in ("never-seen", "x" * 257, "%2e%2e", "%00", "a%2Fb", "*", "%0A", "a%0Ab"):
            replies = [await site.get(f"/api/tasks/{task_id}{tail}") for tail in ("", "?history=1", "/events")]
            replies += [await site.post(f"/api/tasks/{task_id}/{verb}") for verb in ("cancel", "rerun")]

            assert {refusal(reply) for reply in replies} == {(404, "not_found")}, task_id


class TestDoing:
    async def test_a_cancel_ends_the_task_and_may_be_repeated(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("stay")

        first = await site.post(f"/api/tasks/{task_id}/cancel")
        again = await site.post(f"/api/tasks/{task_id}/cancel")

        assert (first.status_code, first.json()["status"], first.json()["reason"]) == (200, "cancelled", "client")
        assert (again.status_code, again.json()) == (200, first.json())

    async def test_a_cancel_of_a_task_that_ended_otherwise_is_a_conflict(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("steps", count=1)
        await site.until(task_id, "completed")

        reply = await site.post(f"/api/tasks/{task_id}/cancel")

        assert refusal(reply) == (409, "conflict")
        assert reply.json()["error"]["message"] == "The task has already ended: completed."

    async def test_a_failed_task_runs_again_and_the_two_name_each_other(self, site: ApiClient, tmp_path: Path) -> None:
        task_id = await site.rpc.task("until_exists", path=str(tmp_path / "gate"))
        await site.post(f"/api/tasks/{task_id}/cancel")

        reply = await site.post(f"/api/tasks/{task_id}/rerun")

        assert (reply.status_code, reply.json()["status"], reply.json()["rerun_of"]) == (201, "pending", task_id)
        again = reply.json()["id"]
        assert (await site.get(f"/api/tasks/{task_id}")).json()["rerun_as"] == again
        (tmp_path / "gate").touch()
        done = await site.until(again, "completed")
        assert done["result"]["structuredContent"] == {"result": "there"}

    async def test_a_rerun_with_a_key_may_be_repeated(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("stay")
        await site.post(f"/api/tasks/{task_id}/cancel")

        ids = [
            (await site.post(f"/api/tasks/{task_id}/rerun", **{"idempotency-key": key})).json()["id"]
            for key in ("a", "a", "b")
        ]

        assert (ids[0] == ids[1], ids[1] == ids[2]) == (True, False)

    async def test_a_task_that_cannot_run_again_is_refused_with_the_reason(self, site: ApiClient) -> None:
        running, done = await site.rpc.task("stay"), await site.rpc.task("steps", count=1)
        await site.until(done, "completed")

        refused = [await site.post(f"/api/tasks/{task_id}/rerun") for task_id in (running, done)]

        assert [refusal(reply) for reply in refused] == [(409, "not_repeatable")] * 2
        assert "has not ended" in refused[0].text
        assert "succeeded" in refused[1].text

    @pytest.mark.parametrize("key", ["", "x" * 201])
    async def test_a_key_that_cannot_be_one_is_refused(self, site: ApiClient, key: str) -> None:
        task_id = await site.rpc.task("stay")
        await site.post(f"/api/tasks/{task_id}/cancel")

        assert refusal(await site.post(f"/api/tasks/{task_id}/rerun", **{"idempotency-key": key})) == (
            400,
            "bad_request",
        )

    async def test_a_request_that_a_form_on_another_sites_page_could_send_changes_nothing(
        self, site: ApiClient
    ) -> None:
        task_id = await site.rpc.task("stay")

        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "",
            "x/application/json",
        ):
            reply = await site.post(f"/api/tasks/{task_id}/cancel", **{"content-type": kind})
            assert refusal(reply) == (415, "unsupported_media_type"), kind

        assert (await site.get(f"/api/tasks/{task_id}")).json()["status"] in ("pending", "running")

    async def test_only_a_page_of_an_allowed_origin_may_post_without_a_content_type(self, site: ApiClient) -> None:
        task_id = await site.rpc.task("stay")
        path = f"/api/tasks/{task_id}/cancel"
        plain = {"content-type": "text/plain"}

        foreign = [
            await site.post(path, origin=origin, **kind)
            for origin in ("https://evil.example", "null")
            for kind in (plain, {})
        ]
        own = await site.post(path, origin="http://localhost:3000", **plain)

        assert {refusal(reply) for reply in foreign} == {(403, "forbidden")}
        assert own.json()["status"] == "cancelled"

    async def test_a_host_that_is_not_allowed_is_refused(self, site: ApiClient) -> None:
        """DNS rebinding."""
        replies = [await site.get(path, host="evil.example") for path in ("/api/tasks/x", "/metrics")]

        assert {refusal(reply) for reply in replies} == {(421, "misdirected_request")}

    async def test_another_method_is_refused(self, site: ApiClient) -> None:
        asked = [("DELETE", "/x"), ("PUT", ""), ("GET", "/x/cancel"), ("POST", "/x"), ("POST", "/x/events")]

        replies = [
            await site.rpc.http.request(method, f"{site.address}/api/tasks{path}", headers=POST)
            for method, path in asked
        ]

        assert {refusal(reply) for reply in replies} == {(405, "method_not_allowed")}

    async def test_an_unknown_path_is_not_found(self, site: ApiClient) -> None:
        assert refusal(await site.get("/api/nonsense")) == (404, "not_found")


class TestLists:
    async def test_callers_list_their_own_newest_first_page_by_page(self, guarded: ApiClient) -> None:
        ada, bob = guarded.mcp(ADA), guarded.mcp(BOB)
        mine = [await ada.task("stay") for _ in range(3)]
        theirs = await bob.task("stay")

        first = (await guarded.get("/api/tasks?limit=2", ADA)).json()
        second = (await guarded.get(f"/api/tasks?limit=2&cursor={first['next_cursor']}", ADA)).json()

        assert [task["id"] for task in first["tasks"]] == [mine[2], mine[1]]
        assert [task["id"] for task in second["tasks"]] == [mine[0]]
        assert second["next_cursor"] is None
        assert [task["id"] for task in (await guarded.get("/api/tasks", BOB)).json()["tasks"]] == [theirs]

    async def test_a_list_shows_tasks_without_results_and_questions(self, guarded: ApiClient) -> None:
        ada = guarded.mcp(ADA)
        task_id = await ada.task("complain", how="protocol")
        task = await guarded.until(task_id, "failed", token=ADA)

        (listed,) = (await guarded.get("/api/tasks", ADA)).json()["tasks"]

        assert listed == {key: task[key] for key in task if key not in ("result", "error", "questions")}

    async def test_a_list_can_be_narrowed(self, guarded: ApiClient) -> None:
        ada = guarded.mcp(ADA)
        failed, staying, done = [
            await ada.task(*words[:1], **words[1])  # type: ignore[arg-type]
            for words in (("complain", {"how": "protocol"}), ("stay", {}), ("steps", {"count": 1}))
        ]
        for task_id, status in ((failed, "failed"), (staying, "running"), (done, "completed")):
            await guarded.until(task_id, status, token=ADA)

        found = {}
        for query in (
            "status=failed",
            "status=failed,running",
            "status=failed&status=completed",
            "tool=stay",
            "tool=x",
        ):
            tasks = (await guarded.get(f"/api/tasks?{query}", ADA)).json()["tasks"]
            found[query] = [task["id"] for task in tasks]

        assert found == {
            "status=failed": [failed],
            "status=failed,running": [staying, failed],
            "status=failed&status=completed": [done, failed],
            "tool=stay": [staying],
            "tool=x": [],
        }

    async def test_an_anonymous_caller_lists_nothing_and_gets_the_reason(self, site: ApiClient) -> None:
        await site.rpc.task("stay")

        assert refusal(await site.get("/api/tasks")) == (403, "forbidden")

    async def test_malformed_parameters_of_a_list_are_refused(self, guarded: ApiClient) -> None:
        limits = ["limit=0", "limit=-1", "limit=201", "limit=many", "limit=%D9%A3", "limit="]
        cursors = ["cursor=", "cursor=forged", "cursor=" + "A" * 5000, "cursor=%00%ff"]

        said = {query: refusal(await guarded.get(f"/api/tasks?{query}", ADA)) for query in [*limits, *cursors]}
        states = refusal(await guarded.get("/api/tasks?status=sleeping", ADA))

        assert said == {**dict.fromkeys(limits, (400, "bad_request")), **dict.fromkeys(cursors, (400, "bad_cursor"))}
        assert states == (400, "bad_request")

    async def test_another_callers_cursor_is_refused(self, guarded: ApiClient) -> None:
        ada, bob = guarded.mcp(ADA), guarded.mcp(BOB)
        for mcp in (ada, ada, bob, bob):
            await mcp.task("stay")
        mine = (await guarded.get("/api/tasks?limit=1", ADA)).json()["next_cursor"]
        operators = (await guarded.get("/api/tasks?limit=1", OPERATOR_TOKEN)).json()["next_cursor"]

        replies = [
            await guarded.get(f"/api/tasks?cursor={cursor}", token)
            for cursor, token in ((mine, BOB), (mine, OPERATOR_TOKEN), (operators, ADA))
        ]

        assert {refusal(reply) for reply in replies} == {(400, "bad_cursor")}


class TestCallers:
    async def test_a_task_of_another_principal_and_an_unknown_task_get_the_same_answer(
        self, guarded: ApiClient
    ) -> None:
        """I13."""
        task_id = await guarded.mcp(ADA).task("stay")

        said = [
            [await guarded.get(f"/api/tasks/{each}{tail}", BOB) for tail in ("", "/events")]
            + [await guarded.post(f"/api/tasks/{each}/{verb}", BOB) for verb in ("cancel", "rerun")]
            for each in (task_id, "never-seen")
        ]

        foreign, unknown = [[(reply.status_code, reply.json()) for reply in replies] for replies in said]
        assert foreign == unknown
        assert {status for status, _ in foreign} == {404}
        assert (await guarded.get(f"/api/tasks/{task_id}", ADA)).json()["status"] in ("pending", "running")

    @pytest.mark.parametrize("token", [None, "nonsense", "Basic"])
    async def test_a_request_without_a_valid_token_gets_nothing(self, guarded: ApiClient, token: str | None) -> None:
        task_id = await guarded.mcp(ADA).task("stay")
        paths = ("/api/tasks", f"/api/tasks/{task_id}", f"/api/tasks/{task_id}/events", "/api/nonsense")

        replies = [await guarded.get(path, token) for path in paths]
        replies.append(await guarded.post(f"/api/tasks/{task_id}/cancel", token))

        assert {refusal(reply) for reply in replies} == {(401, "invalid_token")}
        assert all(reply.headers["www-authenticate"].startswith("Bearer ") for reply in replies)

    async def test_a_token_without_the_scope_is_refused(self, redis: Redis, settings: StoreSettings) -> None:
        server = make_server(settings, **guarded_options(required_scopes=["tasks"]))
        async with client_of(server) as rpc:
            assert refusal(await ApiClient(rpc).get("/api/tasks", ADA)) == (403, "insufficient_scope")

    async def test_a_rerun_needs_the_scopes_that_a_call_needs_now(self, redis: Redis, settings: StoreSettings) -> None:
        server = make_server(settings, **guarded_options())

        @server.tool(task=TaskConfig(scopes=("rows:write",)))
        async def write() -> str:
            return "written"

        async with client_of(server, operator_token=OPERATOR_TOKEN) as rpc:
            site = ApiClient(rpc)
            task_id = await site.mcp(f"{ADA}/rows:write").task("write")
            await site.post(f"/api/tasks/{task_id}/cancel", ADA)
            path = f"/api/tasks/{task_id}/rerun"

            assert refusal(await site.post(path, ADA)) == (403, "insufficient_scope")
            assert (await site.post(path, f"{ADA}/rows:write")).status_code == 201
            assert (await site.post(path, OPERATOR_TOKEN)).status_code == 201

    async def test_an_operator_sees_and_ends_the_tasks_of_all(self, guarded: ApiClient) -> None:
        ids = [await guarded.mcp(token).task("stay") for token in (ADA, BOB)]

        listed = (await guarded.get("/api/tasks", OPERATOR_TOKEN)).json()["tasks"]
        ended = await guarded.post(f"/api/tasks/{ids[0]}/cancel", OPERATOR_TOKEN)

        assert [task["id"] for task in listed] == ids[::-1]
        assert len({task["owner"] for task in listed}) == 2
        assert (ended.json()["status"], ended.json()["reason"]) == ("cancelled", "operator")

    async def test_an_operators_rerun_stays_its_owners_task(self, guarded: ApiClient) -> None:
        task_id = await guarded.mcp(ADA).task("stay")
        await guarded.post(f"/api/tasks/{task_id}/cancel", OPERATOR_TOKEN)

        again = (await guarded.post(f"/api/tasks/{task_id}/rerun", OPERATOR_TOKEN)).json()["id"]

        listed = (await guarded.get("/api/tasks", ADA)).json()["tasks"]
        assert [task["id"] for task in listed] == [again, task_id]

    async def test_owners_see_nothing_of_the_installation(self, guarded: ApiClient) -> None:
        about = {"io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}}
        call = {"name": "steps", "arguments": {"count": 1}, "_meta": about}
        task_id = (await guarded.mcp(ADA).ask("tools/call", call, name="steps"))["result"]["taskId"]
        await guarded.until(task_id, "completed", token=ADA)

        owners = (await guarded.get(f"/api/tasks/{task_id}?history=1", ADA)).json()
        operators = (await guarded.get(f"/api/tasks/{task_id}?history=1", OPERATOR_TOKEN)).json()

        assert not {"owner", "worker", "client"} & set(owners)
        assert not any({"principal", "worker"} & set(event["facts"]) for event in owners["events"])
        assert {"owner", "worker"} <= set(operators)
        assert operators["client"] == "test"
        found = [(await guarded.get(f"/api/tasks?client={name}", OPERATOR_TOKEN)).json() for name in ("test", "other")]
        assert [[task["id"] for task in one["tasks"]] for one in found] == [[task_id], []]
        assert "worker" in operators["events"][1]["facts"]

    async def test_the_operators_token_never_reaches_the_authors_verifier(
        self, redis: Redis, settings: StoreSettings
    ) -> None:
        """It may be a service elsewhere."""
        options = guarded_options()
        async with client_of(make_server(settings, **options), operator_token=OPERATOR_TOKEN) as rpc:
            site = ApiClient(rpc)
            assert (await site.get("/api/tasks", OPERATOR_TOKEN)).status_code == 200
            assert (await site.get("/mcp", OPERATOR_TOKEN)).status_code == 401
            assert (await site.get("/api/tasks", OPERATOR_TOKEN + "x")).status_code == 401

        assert list(options["token_verifier"].seen) == [OPERATOR_TOKEN + "x"]

    async def test_without_authentication_a_wrong_operators_token_is_refused_and_none_is_not(
        self, site: ApiClient
    ) -> None:
        task_id = await site.rpc.task("stay")

        assert (await site.get(f"/api/tasks/{task_id}")).status_code == 200
        wrong = ["0123456789abcdeX", "0123456789abcde", "x", OPERATOR_TOKEN * 2]
        replies = [await site.get(f"/api/tasks/{task_id}", token) for token in wrong]
        assert {refusal(reply) for reply in replies} == {(401, "unauthorized")}

    async def test_without_an_operators_token_there_is_no_operator(self, redis: Redis, settings: StoreSettings) -> None:
        async with client_of(make_server(settings)) as rpc:
            for token in (None, "None", OPERATOR_TOKEN):
                assert refusal(await ApiClient(rpc).get("/api/tasks", token)) == (403, "forbidden")

    async def test_the_mcp_endpoint_has_no_operator(self, guarded: ApiClient) -> None:
        assert (await guarded.mcp(OPERATOR_TOKEN).post("tasks/get", {"taskId": "x"}, name="x")).status_code == 401


class TestTrouble:
    async def test_an_outage_of_the_store_is_a_503_with_retry_after(
        self, settings: StoreSettings, redis: Redis
    ) -> None:
        app = make_server(settings)
        async with client_of(app, operator_token=OPERATOR_TOKEN) as rpc:
            site = ApiClient(rpc)
            nowhere = StoreSettings(redis_url="redis://127.0.0.1:1", command_timeout=0.2)
            app._runtime._store = _unreachable(nowhere)

            replies = [await site.get("/api/tasks", OPERATOR_TOKEN), await site.get("/api/tasks/x")]

        assert {refusal(reply) for reply in replies} == {(503, "store_unavailable")}
        assert {reply.headers["retry-after"] for reply in replies} == {"1"}

    async def test_an_internal_error_shows_no_details(self, site: ApiClient, redis: Redis) -> None:
        task_id = await site.rpc.task("stay")
        await site.until(task_id, "running")
        await redis.hset(Keys("taskmill").record(task_id), "status", "no such state")  # type: ignore[misc]

        with anyio.fail_after(30):
            reply = await site.get(f"/api/tasks/{task_id}")

        assert refusal(reply) == (500, "internal")
        assert "no such state" not in reply.text
        assert "Traceback" not in reply.text


def _unreachable(settings: StoreSettings) -> Any:
    from taskmill.store.connection.client import connect
    from taskmill.store.tasks.redis_store import RedisTaskStore

    return RedisTaskStore(connect(settings), settings)


class TestMetrics:
    async def test_figures_of_tasks_are_the_same_on_every_replica(
        self, site: ApiClient, settings: StoreSettings
    ) -> None:
        done, failed = await site.rpc.task("steps", count=1), await site.rpc.task("complain", how="protocol")
        await site.until(done, "completed")
        await site.until(failed, "failed")
        await site.until(await site.rpc.task("stay"), "running")
        async with client_of(make_server(settings), operator_token=OPERATOR_TOKEN) as other:
            replies = [await each.get("/metrics", OPERATOR_TOKEN) for each in (site, ApiClient(other))]

        figures = [figures_of(reply.text) for reply in replies]
        stored = [{name: value for name, value in one.items() if not is_of_processes(name, value)} for one in figures]
        assert (
            stored[0]
            == stored[1]
            == {
                "taskmill_store_up": 1,
                "taskmill_tasks_open": 1,
                "taskmill_tasks_kept": 3,
                "taskmill_dead_letters": 0,
                "taskmill_webhooks_undelivered": 0,
                'taskmill_tasks_ended_total{outcome="succeeded",queue="default",status="completed",tool="steps"}': 1,
                'taskmill_tasks_ended_total{outcome="failed",queue="default",status="failed",tool="complain"}': 1,
                'taskmill_tasks{queue="default",status="pending"}': 0,
                'taskmill_tasks{queue="default",status="running"}': 1,
                'taskmill_queue_depth{queue="default"}': 0,
                'taskmill_queue_oldest_seconds{queue="default"}': 0,
                'taskmill_workers{queue="default"}': 1,
                'taskmill_worker_slots{queue="default"}': 10,
                'taskmill_worker_slots_busy{queue="default"}': stored[0]['taskmill_worker_slots_busy{queue="default"}'],
            }
        )
        counted = figures[0]
        assert counted['taskmill_http_requests_total{method="POST",part="mcp",status="200"}'] == 3
        assert counted['taskmill_http_requests_total{method="GET",part="api",status="200"}'] >= 3
        assert not any("api" in name for name in figures[1])

    async def test_waiting_tasks_and_the_age_of_the_oldest_show_that_workers_are_missing(
        self, redis: Redis, settings: StoreSettings
    ) -> None:
        async with client_of(make_server(settings)) as rpc:
            for _ in range(3):
                await rpc.task("stay")
            with anyio.fail_after(30):
                while True:
                    told = figures_of((await ApiClient(rpc).get("/metrics")).text)
                    if told['taskmill_queue_oldest_seconds{queue="default"}'] > 0:
                        break

        assert told['taskmill_queue_depth{queue="default"}'] == 3
        assert told['taskmill_tasks{queue="default",status="pending"}'] == 3
        assert 'taskmill_workers{queue="default"}' not in told

    async def test_metrics_are_open_only_where_there_are_no_tokens(self, site: ApiClient, guarded: ApiClient) -> None:
        replies = [await each.get("/metrics", token) for each in (site, guarded) for token in (None, "x", ADA)]

        assert {refusal(reply) for reply in replies} == {(401, "unauthorized")}
        for each in (site, guarded):
            assert (await each.get("/metrics", OPERATOR_TOKEN)).status_code == 200

    async def test_a_scraper_with_the_token_may_name_a_replica_by_any_address(self, site: ApiClient) -> None:
        assert (await site.get("/metrics", OPERATOR_TOKEN, host="10.0.0.7:8000")).status_code == 200

    async def test_an_outage_of_the_store_is_a_figure_too(self, redis: Redis, settings: StoreSettings) -> None:
        app = make_server(settings)
        async with client_of(app) as rpc:
            app._runtime._store = _unreachable(StoreSettings(redis_url="redis://127.0.0.1:1", command_timeout=0.2))
            told = figures_of((await ApiClient(rpc).get("/metrics")).text)

        assert told["taskmill_store_up"] == 0


def is_of_processes(name: str, value: float) -> bool:
    """Whether a metric is what processes have counted, of requests or of attempts: it follows a moment later."""
    return "http" in name or ("tool=" in name and not (name.startswith("taskmill_tasks_ended") and value))


async def test_tasks_of_an_anonymous_owner_are_on_no_callers_list(site: ApiClient, settings: StoreSettings) -> None:
    task_id = await site.rpc.task("stay")

    async with open_store(settings) as store:
        assert (await store.page("anonymous")).views == ()
    listed = (await site.get("/api/tasks", OPERATOR_TOKEN)).json()["tasks"]
    assert [task["id"] for task in listed] == [task_id]
