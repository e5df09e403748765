"""Errors of attempts over the API: for operators, and never for the task's owner or a client of the protocol."""

from redis.asyncio import Redis

from taskmill import TaskServer
from taskmill.testing import TestBed
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
