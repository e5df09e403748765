"""A caller who can keep no more is refused before the arguments are written and sent to Redis."""

from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import QuotaExceeded
from taskmill.server.limits import full_callers
from taskmill.server.limits.full_callers import FullCallers
from taskmill.server.settings import ServerSettings
from tests.server.api_client import ADA, BOB, client_with
from tests.support.replica import client_of
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


async def test_a_second_call_that_has_no_room_is_refused_without_being_written(
    redis: Redis, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_callers, "_FOR", 3600)
    small = settings.model_copy(update={"kept_bytes_limit": 20_000, "max_arguments": 1_000_000})
    mcp = make_server(small, **guarded_options())
    async with client_of(mcp) as rpc:
        ada, bob = client_with(rpc.url, ADA), client_with(rpc.url, BOB)
        written = _count_written(mcp, monkeypatch)
        first = await ada.call("until_exists", path="x" * 30_000)
        again = await ada.call("until_exists", path="x" * 30_000)
        assert (again["error"], len(written)) == (first["error"], 1)
        assert again["error"]["data"]["limit"] == "kept_bytes"
        assert "result" in await ada.call("until_exists", path="x" * 10_000), "so much fits"
        assert (await bob.call("until_exists", path="x" * 30_000))["error"]["data"]["limit"] == "kept_bytes"
        assert len(written) == 3


def _count_written(mcp: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    pack = mcp.store.pack

    def counted(task_id: str, *args: Any, **more: Any) -> bytes:
        written.append(task_id)
        result: bytes = pack(task_id, *args, **more)
        return result

    monkeypatch.setattr(mcp.store, "pack", counted)
    return written


def test_a_refusal_is_forgotten_after_a_second_and_concerns_one_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(full_callers, "monotonic", lambda: now)
    full, refusal = FullCallers(), QuotaExceeded("no", limit="kept_tasks", allowed=1, used=1, retry_after=60)
    full.note("ada", "default", refusal, 10)
    full.check("ada", "other", {})
    full.check("bob", "default", {})
    with pytest.raises(QuotaExceeded, match="no") as again:
        full.check("ada", "default", {})
    assert again.value.facts == refusal.facts
    now += 1.01
    full.check("ada", "default", {})


def test_open_tasks_which_a_caller_can_end_are_looked_at_each_time() -> None:
    full = FullCallers()
    full.note("ada", "default", QuotaExceeded("no", limit="open_tasks", allowed=1, used=1, retry_after=5), 10)
    full.check("ada", "default", {"text": "x" * 100_000})
