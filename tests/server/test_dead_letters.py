"""What the HTTP API shows of tasks that fail: while they are tried again, and as dead letters."""

from datetime import datetime, timedelta

import anyio
from redis.asyncio import Redis

from taskmill.server import TaskConfig
from taskmill.store.settings import StoreSettings
from tests.server.api_client import ADA, BOB, OPERATOR_TOKEN, ApiClient, figures_of, refusal
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server


async def broken(site: ApiClient, token: str) -> str:
    """A task of the caller that failed for good."""
    task_id = await site.mcp(token).task("complain", how="crash")
    await site.until(task_id, "completed", token=token)  # a crash is a result that says so
    return task_id


async def letters(site: ApiClient, query: str = "") -> list[str]:
    reply = await site.get(f"/api/dead-letters{query}", OPERATOR_TOKEN)
    return [task["id"] for task in reply.json()["tasks"]]


async def test_an_operator_lists_all_dead_letters_newest_first_page_by_page(guarded: ApiClient) -> None:
    ids = [await broken(guarded, token) for token in (ADA, BOB, ADA)]
    answered = await guarded.mcp(ADA).task("complain", how="tool")
    await guarded.until(answered, "completed", token=ADA)

    page = (await guarded.get("/api/dead-letters?limit=2", OPERATOR_TOKEN)).json()
    rest = await letters(guarded, f"?cursor={page['next_cursor']}")

    assert [task["id"] for task in page["tasks"]] + rest == ids[::-1]
    assert {(task["tool"], task["reason"], task["attempts"]) for task in page["tasks"]} == {("complain", "crashed", 1)}
    assert len({task["owner"] for task in page["tasks"]}) == 2
    assert (await letters(guarded, "?tool=complain"), await letters(guarded, "?tool=steps")) == (ids[::-1], [])


async def test_a_dead_letter_that_is_run_again_leaves_the_list_and_the_count(guarded: ApiClient) -> None:
    ids = [await broken(guarded, ADA) for _ in range(2)]
    counted = [figures_of((await guarded.get("/metrics", OPERATOR_TOKEN)).text)["taskmill_dead_letters"]]

    again = await guarded.post(f"/api/tasks/{ids[0]}/rerun", OPERATOR_TOKEN)
    left = await letters(guarded)

    assert (again.status_code, again.json()["rerun_of"], left[-1]) == (201, ids[0], ids[1])
    await guarded.until(again.json()["id"], "completed", token=ADA)
    assert await letters(guarded) == [again.json()["id"], ids[1]]
    counted.append(figures_of((await guarded.get("/metrics", OPERATOR_TOKEN)).text)["taskmill_dead_letters"])
    assert counted == [2, 2]


async def test_dead_letters_are_for_operators_and_a_cursor_of_theirs_for_no_other_list(guarded: ApiClient) -> None:
    for _ in range(2):
        await broken(guarded, ADA)
    cursor = (await guarded.get("/api/dead-letters?limit=1", OPERATOR_TOKEN)).json()["next_cursor"]

    assert refusal(await guarded.get("/api/dead-letters", ADA)) == (403, "forbidden")
    assert refusal(await guarded.get("/api/dead-letters")) == (401, "invalid_token")
    for path in (f"/api/tasks?cursor={cursor}", "/api/dead-letters?cursor=forged"):
        assert refusal(await guarded.get(path, OPERATOR_TOKEN)) == (400, "bad_cursor")


async def test_without_an_operator_no_one_lists_dead_letters(redis: Redis, settings: StoreSettings) -> None:
    async with client_of(make_server(settings)) as rpc:
        for token in (None, OPERATOR_TOKEN):
            assert refusal(await ApiClient(rpc).get("/api/dead-letters", token)) == (403, "forbidden")


async def test_a_task_that_waits_for_its_next_attempt_says_which_why_and_when(
    redis: Redis, settings: StoreSettings
) -> None:
    """Clients of every revision get the same words."""
    server = make_server(settings)

    @server.tool(task=TaskConfig(retries=3, backoff=60, deadline=3600))
    async def stumble() -> str:
        raise ConnectionError("busy")

    async with client_of(server) as rpc, working(server, settings):
        site, task_id = ApiClient(rpc), await rpc.task("stumble")
        with anyio.fail_after(30):
            while not (task := (await site.get(f"/api/tasks/{task_id}?history=1")).json())["failures"]:
                await anyio.sleep(0.01)
        polled = (await rpc.get(task_id))["result"]

    assert (task["status"], task["attempts"], task["failures"], task["retries"]) == ("pending", 1, 1, 3)
    assert task["reason"] == "crashed"
    moments = [datetime.fromisoformat(task[name]) for name in ("created_at", "updated_at", "due_at", "deadline_at")]
    assert moments[2] - moments[1] == timedelta(seconds=60)
    assert moments[3] - moments[0] == timedelta(hours=1)
    assert task["status_text"].startswith("attempt 2 of 4 in ")
    assert task["status_text"].endswith(" s: the last one failed")
    assert polled["statusMessage"].startswith("attempt 2 of 4 in ")
    assert [event["facts"].get("reason") for event in task["events"] if event["move"] == "release"] == ["crashed"]
