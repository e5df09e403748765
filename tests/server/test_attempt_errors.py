"""Errors of attempts over the API: for operators, and never for the task's owner or a client of the protocol."""

from tests.server.api_client import ADA, OPERATOR_TOKEN, ApiClient, refusal


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
