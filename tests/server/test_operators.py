"""Operators have roles: each token, or scope of the issuer, permits what it is for and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.operators import Role, operators_of
from taskmill.server.settings import ServerSettings
from taskmill.server.streams import event_stream
from tests.server.api_client import ApiClient, refusal
from tests.support.replica import client_of
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

READER, ACTOR, SCRAPER, ALL = "r" * 16, "a" * 16, "s" * 16, "0" * 16
ADA = "issuer/app/ada"
ROLES = f"read:{READER} act:{ACTOR}\nmetrics:{SCRAPER}"


@asynccontextmanager
async def serving_with(settings: ServerSettings, *, auth: bool = True, **given: Any) -> AsyncIterator[ApiClient]:
    options = guarded_options() if auth else {}
    async with client_of(make_server(settings.model_copy(update=given), **options)) as rpc:
        yield ApiClient(rpc)


@pytest.mark.parametrize("auth", [True, False], ids=["users", "open"])
async def test_each_role_permits_what_it_is_for(redis: Redis, settings: ServerSettings, auth: bool) -> None:
    async with serving_with(settings, auth=auth, operator_tokens=ROLES, api_operator_token=ALL) as api:
        task_id = await api.mcp(ADA if auth else None).task("stay")
        one = f"/api/tasks/{task_id}"
        done = {}
        for name, token in (("read", READER), ("act", ACTOR), ("metrics", SCRAPER), ("all", ALL)):
            reads = [(await api.get(path, token)).status_code for path in (one, "/api/tasks", "/api/dead-letters")]
            acts = (await api.post(f"{one}/rerun", token)).status_code
            done[name] = (*reads, acts, (await api.get("/metrics", token)).status_code)
        assert done == {
            "read": (200, 200, 200, 403, 403),
            "act": (200, 200, 200, 409, 403),  # 409: it may, and the task has not ended
            "metrics": (403, 403, 403, 403, 200),
            "all": (200, 200, 200, 409, 200),
        }
        assert (await api.post(f"{one}/cancel", READER)).status_code == 403
        assert (await api.post(f"{one}/cancel", ACTOR)).json()["status"] == "cancelled"


async def test_a_refusal_names_the_role(redis: Redis, settings: ServerSettings) -> None:
    async with serving_with(settings, operator_tokens=ROLES) as api:
        refused = await api.get("/api/tasks", SCRAPER)
        assert refusal(refused) == (403, "forbidden")
        assert "role read" in refused.json()["error"]["message"]
        assert SCRAPER not in refused.text
        assert (await api.mcp(SCRAPER).post("tools/list", {})).status_code == 401, "an operator is no user"


async def test_a_token_is_exchanged_in_the_file_without_a_gap(
    redis: Redis, settings: ServerSettings, tmp_path: Path
) -> None:
    old, new = "old-old-old-old-", "new-new-new-new-"
    file = tmp_path / "operators"
    file.write_text(f"# of today\nread:{old}\n")
    async with serving_with(settings, operator_tokens_file=file) as api:

        async def good() -> list[int]:
            return [(await api.get("/api/tasks", token)).status_code for token in (old, new)]

        assert await good() == [200, 401]
        file.write_text(f"read:{old}\nread:{new}\n")
        assert await good() == [200, 200]
        with capture_logs() as logs:
            file.write_text("nonsense\n")
            assert await good() == [200, 200], "a mistake in the file locks no one out"
        assert [entry["event"] for entry in logs].count("operators.file_unreadable") == 1
        file.write_text(f"read:{new}\n")
        assert await good() == [401, 200]


async def test_a_stream_ends_soon_after_its_token_was_taken_away(
    redis: Redis, settings: ServerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "COMMENT_EVERY", 0.05)
    file = tmp_path / "operators"
    file.write_text(f"read:{READER}\n")
    async with serving_with(settings, operator_tokens_file=file) as api:
        path = f"{api.address}/api/tasks/{await api.mcp(ADA).task('stay')}/events"
        async with api.rpc.http.stream("GET", path, headers={"authorization": f"Bearer {READER}"}) as reply:
            assert reply.status_code == 200
            file.write_text("read:another-another-one\n")
            with anyio.fail_after(20):
                async for _ in reply.aiter_bytes():
                    pass
        assert (await api.get("/api/tasks", READER)).status_code == 401


async def test_a_scope_of_the_issuer_makes_an_operator_of_its_user(redis: Redis, settings: ServerSettings) -> None:
    scopes = "read:ops.read act:ops.act metrics:ops.metrics"
    async with serving_with(settings, operator_scopes=scopes) as api:
        task_id = await api.mcp(ADA).task("stay")
        one = f"/api/tasks/{task_id}"
        user, reader, actor, scraper = (
            f"issuer/app/eve/{scope}" for scope in ("", "ops.read", "ops.act", "ops.metrics")
        )
        assert [(await api.get(one, token)).status_code for token in (user, reader, actor, scraper)] == [
            404,
            200,
            200,
            404,
        ]
        assert [(await api.get("/metrics", token)).status_code for token in (user, reader, scraper)] == [401, 401, 200]
        assert (await api.post(f"{one}/cancel", reader)).status_code == 404, "as a user, who has no such task"
        assert (await api.post(f"{one}/cancel", actor)).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("read", "entry 1"),
        ("root:0123456789abcdef", "Roles are read, act, metrics"),
        (f"read:{READER} :0123456789abcdef", "entry 2"),
        ("read:short", "16 characters"),
    ],
)
def test_a_malformed_entry_is_refused_and_not_shown(given: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        operators_of(ServerSettings(operator_tokens=given))
    assert "0123456789abcdef" not in str(refused.value)
    assert "short" not in str(refused.value)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        operators_of(ServerSettings(operator_tokens_file=tmp_path / "none"))


def test_roles_of_one_token_add_up() -> None:
    operators = operators_of(ServerSettings(operator_tokens=f"read:{READER} metrics:{READER}"))
    assert operators.of_token(READER.encode()).roles == {Role.READ, Role.METRICS}
    assert operators.of_token(b"").roles == frozenset()
