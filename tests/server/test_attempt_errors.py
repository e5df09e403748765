"""Errors of attempts: for operators; for the task's owner and its client of the protocol only by a setting."""

from typing import Literal

import pytest
from mcp.shared.exceptions import MCPError
from redis.asyncio import Redis

from taskmill import TaskServer
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.server.protocol.results import tool_result
from taskmill.server.protocol.shapes_2025 import task_of
from taskmill.server.protocol.shapes_2026 import ATTEMPT_ERRORS
from taskmill.server.settings import ServerSettings
from taskmill.testing import TestBed
from tests.server.api_client import ADA, BOB, OPERATOR_TOKEN, ApiClient, refusal
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


async def test_an_operator_reads_why_an_attempt_failed_and_its_owner_does_not(guarded: ApiClient) -> None:
    task_id = await guarded.mcp(ADA).task("complain", how="crash")
    path = f"/api/tasks/{task_id}"
    await guarded.until(task_id, "completed", "failed", token=ADA)

    (attempt,) = (await guarded.get(f"{path}/attempts", OPERATOR_TOKEN)).json()["attempts"]

    assert attempt["ended"] == "crashed"
    assert attempt["error"]["type"] == "RuntimeError"
    assert attempt["error"]["text"] == "the secret word is swordfish"
    assert refusal(await guarded.get(f"{path}/attempts", ADA)) == (403, "forbidden")
    assert (await guarded.get(f"{path}/attempts")).status_code == 401
    for shown in (path, f"{path}?history=1", f"{path}/events", "/api/tasks"):
        text = (await guarded.get(shown, ADA)).text
        assert task_id in text or "event" in text
        assert "swordfish" not in text
    assert "swordfish" not in str(await guarded.mcp(ADA).post("tasks/get", {"taskId": task_id}))


async def test_attempts_of_an_unknown_task_are_not_found(guarded: ApiClient) -> None:
    assert refusal(await guarded.get("/api/tasks/none/attempts", OPERATOR_TOKEN)) == (404, "not_found")


async def test_the_error_that_the_tool_raised_is_kept_with_its_cause(redis: Redis, redis_url: str) -> None:
    mcp = TaskServer("Shelves")

    @mcp.tool(task=True)
    async def crash(shelf: str) -> str:
        """Raise an error with a cause."""
        try:
            raise LookupError("no such shelf")
        except LookupError as exc:
            raise ValueError("the shelf fell") from exc

    async with TestBed(mcp, redis_url=redis_url) as bed:
        async with bed.client() as client:
            await client.call("crash", shelf="a value of an argument")
        (task_id,) = await bed.task_ids()
        (error,) = (await bed.store.attempt_errors(task_id)).values()

    assert (error.type, error.text) == ("ValueError", "the shelf fell")
    assert "LookupError: no such shelf" in error.traceback
    assert "direct cause" in error.traceback
    assert "Unexpected" not in error.traceback
    assert "a value of an argument" not in error.traceback


@pytest.mark.parametrize(("sees", "shown"), [("text", False), ("traceback", True)])
async def test_by_a_setting_the_owner_of_a_task_sees_why_its_attempts_failed(
    redis: Redis, settings: ServerSettings, *, sees: Literal["text", "traceback"], shown: bool
) -> None:
    changed = settings.model_copy(update={"caller_errors": sees})
    app = make_server(changed, **guarded_options())
    async with client_of(app, operator_token=OPERATOR_TOKEN) as rpc, working(make_server(settings), settings):
        api = ApiClient(rpc)
        task_id = await api.mcp(ADA).task("complain", how="crash")
        await api.until(task_id, "completed", "failed", token=ADA)
        over_mcp = (await api.mcp(ADA).get(task_id))["result"]
        (of_api,) = (await api.get(f"/api/tasks/{task_id}/attempts", ADA)).json()["attempts"]
        held = (await api.mcp(ADA).without_tasks().call("complain", how="crash"))["result"]
        strangers = await api.get(f"/api/tasks/{task_id}/attempts", BOB)

    (error,) = over_mcp["_meta"][ATTEMPT_ERRORS]
    assert (error["attempt"], error["type"], error["text"]) == (1, "RuntimeError", "the secret word is swordfish")
    assert ("complain" in error.get("traceback", ""), "complain" in of_api["error"]["traceback"]) == (shown, shown)
    assert (of_api["error"]["text"], of_api["worker"], of_api["error"]["host"]) == (error["text"], None, "")
    assert [one["text"] for one in held["_meta"][ATTEMPT_ERRORS]] == [error["text"]]
    assert "swordfish" not in str(over_mcp["result"]["content"]), "a model reads that"
    assert refusal(strangers) == (404, "not_found")


def test_a_failure_that_is_an_error_of_json_rpc_names_the_errors_in_its_data() -> None:
    task = TaskRecord("t", "dig", "default", "ann", Status.FAILED, created_ms=0, updated_ms=0, seq=3)
    view = TaskView(task, Failed(Fault.TIMEOUT, "too long", "1234"), errors={2: AttemptError("TimeoutError", "10 s")})

    with pytest.raises(MCPError) as raised:
        tool_result(view)

    shown = [{"attempt": 2, "type": "TimeoutError", "text": "10 s", "reference": ""}]
    assert raised.value.error.data == {"reason": "timeout", "reference": "1234", "attemptErrors": shown}
    assert task_of(view)["_meta"] == {ATTEMPT_ERRORS: shown}
