"""The audit trail of a server: who did what to which task, by every way in, and each refusal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.engine.principal import principal_of
from taskmill.server import TaskServer
from taskmill.server.settings import ServerSettings
from tests.server.api_client import ADA, BOB, ApiClient, refusal
from tests.server.session_client import Session, open_session
from tests.support.audit_lines import audit_lines
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

READER, ACTOR = "r" * 16, "a" * 16
ADAS, BOBS = (principal_of("issuer", "app", name) for name in ("ada", "bob"))
Json = dict[str, Any]


@asynccontextmanager
async def audited(settings: ServerSettings, file: Path, *, auth: bool = True, **given: Any) -> AsyncIterator[ApiClient]:
    options = guarded_options() if auth else {}
    given = {"audit": f"file:{file},redis", "operator_tokens": f"rita=read:{READER} act:{ACTOR}", **given}
    settings = settings.model_copy(update=given)
    async with client_of(make_server(settings, **options)) as rpc, working(make_server(settings), settings):
        yield ApiClient(rpc)


def told(file: Path, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(line[name] for name in names) for line in audit_lines(file)]


async def test_what_users_and_operators_do_to_a_task_names_them(
    redis: Redis, settings: ServerSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file) as api:
        ada = api.mcp(ADA)
        first, second = await ada.task("stay"), await ada.task("stay")
        await ada.call("hello", name="you")
        await api.get(f"/api/tasks/{first}", ADA)
        await api.post(f"/api/tasks/{first}/cancel", ADA)
        await api.get(f"/api/tasks/{first}", READER)
        await api.get("/api/tasks", READER)
        await api.post(f"/api/tasks/{second}/cancel", ACTOR)
        again = (await api.post(f"/api/tasks/{second}/rerun", ACTOR)).json()["id"]
        await api.post(f"/api/tasks/{again}/cancel", ACTOR)
        await api.post(f"/api/tasks/{again}/cancel", ACTOR)
        await api.post("/api/queues/default/pause", ACTOR)
        await api.post("/api/queues/default/resume", ACTOR)
    assert told(file, "action", "outcome", "actor", "who", "task", "tool") == [
        ("task.created", "ok", "user", ADAS, first, "stay"),
        ("task.created", "ok", "user", ADAS, second, "stay"),
        ("tool.called", "ok", "user", ADAS, None, "hello"),
        ("task.cancelled", "ok", "user", ADAS, first, None),
        ("task.read", "ok", "operator", "rita", first, "stay"),
        ("tasks.listed", "ok", "operator", "rita", None, None),
        ("task.cancelled", "ok", "operator", "token-2", second, None),
        ("task.rerun", "ok", "operator", "token-2", again, "stay"),
        ("task.cancelled", "ok", "operator", "token-2", again, None),
        ("task.cancelled", "unchanged", "operator", "token-2", again, None),
        ("queue.paused", "ok", "operator", "token-2", None, None),
        ("queue.resumed", "ok", "operator", "token-2", None, None),
    ]
    assert set(told(file, "address", "via", "subject")) == {("127.0.0.1", "http", None)}
    assert {tuple(line["roles"]) for line in audit_lines(file) if line["who"] == "token-2"} == {("act", "read")}


async def test_each_refusal_has_its_reason(redis: Redis, settings: ServerSettings, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file) as api:
        task_id = await api.mcp(ADA).task("stay")
        bob = api.mcp(BOB)
        await bob.get(task_id)
        await bob.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
        await bob.ask("tasks/update", {"taskId": task_id, "inputResponses": {}}, name=task_id)
        await bob.without_tasks().call("task_status", task_id=task_id)
        await api.get(f"/api/tasks/{task_id}", BOB)
        await api.post(f"/api/tasks/{task_id}/cancel", BOB)
        await api.post(f"/api/tasks/{task_id}/rerun", BOB)
        await api.get("/api/artifacts/none", BOB)
        assert refusal(await api.get(f"/api/tasks/{'x' * 300}", BOB))[0] == 404
        await api.mcp(None).get(task_id)
        await api.mcp("forged").get(task_id)
        await api.get("/api/tasks", "forged")
        await api.get("/api/dead-letters", BOB)
        await api.post(f"/api/tasks/{task_id}/cancel", READER)
        await api.mcp(BOB).call("privileged")
        await api.get("/api/tasks", BOB, host="evil.example")
        await api.get("/api/tasks", BOB, origin="https://evil.example")
        await api.post(f"/api/tasks/{task_id}/cancel", BOB, **{"content-type": "text/plain"})
        await api.get("/api/tasks", BOB, **{f"x-{number}": "x" for number in range(200)})
    refused = [line for line in audit_lines(file) if line["outcome"] == "refused"]
    assert [(line["reason"], line["actor"], line["task"]) for line in refused] == [
        *[("unknown_task", "user", task_id)] * 7,
        *[("unknown_task", "user", None)] * 2,
        ("no_token", "anonymous", None),
        ("bad_token", "anonymous", None),
        ("bad_token", "anonymous", None),
        ("wrong_role", "user", None),
        ("wrong_role", "operator", None),
        ("foreign_host", "anonymous", None),
        ("foreign_origin", "anonymous", None),
        ("foreign_form", "user", None),
        ("too_large", "anonymous", None),
    ]
    assert {line["who"] for line in refused if line["actor"] == "user"} == {BOBS}
    assert {line["action"] for line in refused} == {"access.refused"}


async def test_no_argument_result_or_token_is_in_the_trail(
    redis: Redis, settings: ServerSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file, audit_names=True) as api:
        task_id = await api.mcp(ADA).task("plain", text="swordfish")
        await api.until(task_id, "completed", token=ADA)
        await api.get(f"/api/tasks/{task_id}", READER)
        await api.mcp("issuer/app/forged/but/long").call("plain", text="swordfish")
    text = file.read_text()
    assert [word for word in ("swordfish", "SWORDFISH", READER, ADA, "forged") if word in text] == []
    assert told(file, "subject", "client")[0] == ("ada", "app"), "names stand there where the operator wants them"


async def test_sessions_before_2026_leave_the_same_trail(
    redis: Redis, settings: ServerSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file) as api:
        mine = await open_session(api.mcp(ADA).http, api.rpc.url)
        task_id = (await mine.task("stay"))["taskId"]
        await mine.ask("tasks/cancel", taskId=task_id)
        bob = api.mcp(BOB).http
        await (await open_session(bob, api.rpc.url)).ask("tasks/get", taskId=task_id)
        foreign = Session(bob, api.rpc.url, mine.id, mine.revision)
        await foreign.post(foreign.request("tools/list"))
    assert told(file, "action", "reason", "who", "task") == [
        ("task.created", None, ADAS, task_id),
        ("task.cancelled", "client", ADAS, task_id),
        ("access.refused", "unknown_task", BOBS, task_id),
        ("access.refused", "unknown_session", BOBS, None),
    ]


async def test_operators_read_the_trail_over_the_api(redis: Redis, settings: ServerSettings, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file) as api:
        task_id = await api.mcp(ADA).task("stay")
        await api.mcp(BOB).get(task_id)
        shown: list[Json] = []
        while len(shown) < 2:
            shown = (await api.get("/api/audit?action=task.&limit=5", READER)).json()["records"]
            shown += (await api.get("/api/audit?outcome=refused", READER)).json()["records"]
        assert [(one["action"], one["who"]) for one in shown] == [("task.created", ADAS), ("access.refused", BOBS)]
        for path in ("/api/audit?since=soon", "/api/audit?cursor=nowhere", "/api/audit?limit=501"):
            assert refusal(await api.get(path, READER))[0] == 400
        assert refusal(await api.get("/api/audit", ADA)) == (403, "forbidden")
        assert (await api.get("/api/audit")).status_code == 401
    async with audited(settings, file, audit=f"file:{file}") as api:
        assert "TASKMILL_AUDIT" in (await api.get("/api/audit", READER)).json()["error"]["message"]


async def test_a_server_without_task_tools_leaves_a_trail_too(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    mcp: TaskServer[Any] = TaskServer("Plain", store=ServerSettings(audit=f"file:{file}", home=tmp_path))

    @mcp.tool()
    def hello() -> str:
        return "hello"

    async with client_of(mcp) as rpc:
        assert (await rpc.without_tasks().call("hello"))["result"]["content"][0]["text"] == "hello"
        await ApiClient(rpc).get("/api/tasks", host="evil.example")
    assert told(file, "action", "reason", "tool") == [
        ("tool.called", None, "hello"),
        ("access.refused", "foreign_host", None),
    ]


@pytest.mark.parametrize("given", ["00-" + "7" * 32 + "-" + "1" * 16 + "-01", "nonsense", None])
async def test_all_records_of_a_request_have_one_name(
    redis: Redis, settings: ServerSettings, tmp_path: Path, given: str | None
) -> None:
    file = tmp_path / "audit.jsonl"
    async with audited(settings, file, auth=False) as api:
        api.rpc.http.headers.update({} if given is None else {"traceparent": given})
        await api.rpc.call("hello", name="you")
    [line] = audit_lines(file)
    assert line["request"] == "7" * 32 if given and given[0] == "0" else len(line["request"]) == 16
    assert (line["actor"], line["who"]) == ("anonymous", None)
