"""Limits of one caller or of a group, by a file."""

import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from taskmill.engine.errors import SettingsError
from taskmill.engine.principal import ANONYMOUS, PrincipalLimits, principal_of
from taskmill.server.limits.limits_file import LimitsFile
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import read_settings
from tests.server.api_client import ADA, BOB, ApiClient
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

ADAS = principal_of("issuer", "app", "ada")
USUAL = PrincipalLimits(open_tasks=10, sessions=7)
RULES = f"""
[[limits]]
claims = {{ plan = "free" }}
open_tasks = 3
running_tasks = 1

[[limits]]
claims = {{ plan = "free", "org.region" = "eu" }}
open_tasks = 4

[[limits]]
principal = "{ADAS}"
open_tasks = 5
creations = 0.5

[[limits]]
claims = {{ groups = "batch" }}
open_tasks = 0
kept_tasks = 9

[[limits]]
claims = {{ groups = "night" }}
open_tasks = 100

[[limits]]
claims = {{ paid = true }}
open_tasks = 200
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "limits.toml").write_text(RULES)
    return tmp_path / "limits.toml"


@pytest.mark.parametrize(
    ("principal", "claims", "limits"),
    [
        ("bob", {}, {"open_tasks": 10}),
        ("bob", {"plan": "free"}, {"open_tasks": 3, "running_tasks": 1}),
        ("bob", {"plan": "free", "org": {"region": "eu"}}, {"open_tasks": 4, "running_tasks": 1}),
        (ADAS, {"plan": "free"}, {"open_tasks": 5, "running_tasks": 1, "creations": 0.5}),
        ("bob", {"groups": ["night", "batch"]}, {"open_tasks": 0, "kept_tasks": 9}),
        ("bob", {"plan": ["paid"], "groups": "night"}, {"open_tasks": 100}),
        ("bob", {"paid": True}, {"open_tasks": 200}),
        ("bob", {"paid": 1}, {}),
    ],
    ids=[
        *("no rule", "a claim", "more claims win", "a principal wins", "the first of equals wins", "a list of claims"),
        *("a truth", "a number is no truth"),
    ],
)
def test_of_the_rules_that_fit_a_caller_the_most_precise_one_gives_each_limit(
    file: Path, principal: str, claims: dict[str, Any], limits: dict[str, Any]
) -> None:
    wanted = PrincipalLimits(**{"open_tasks": 10, "sessions": 7, **limits})
    assert LimitsFile(file).limits_of(principal, claims, USUAL) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[limits]]\nopen_tasks = \n", "limits.toml is no TOML: Invalid value (at line 2, column 14)"),
        (
            "[limit]\nopen_tasks = 1\n",
            "limits.toml, line 1: 'limit' is not known here. Each rule begins with [[limits]]",
        ),
        ("[limits]\nopen_tasks = 1\n", "limits.toml: write [[limits]], in double brackets, above each rule"),
        (f"{RULES}\n[[limits]]\nclaims = {{ plan = 'x' }}\nopen_task = 3\n", "line 31: 'open_task' is no limit."),
        ("[[limits]]\nclaims = {plan = 'x'}\n\nsessions = -1\n", "line 4: sessions must be a whole number from 0"),
        ("[[limits]]\nclaims = {plan = 'x'}\nsessions = 1.5\n", "line 3: sessions must be a whole number from 0"),
        (f"[[limits]]\nclaims = {{plan = 'x'}}\nsessions = {10**16}\n", "line 3: sessions must be a whole number"),
        ("[[limits]]\nclaims = {}\nsessions = 1\n", "line 2: claims must name claims"),
        (f"[[limits]]\nprincipal = '{ADAS}0'\nsessions = 1\n", "line 2: principal must be 64 hex digits"),
        (
            f"[[limits]]\nprincipal = '{ADAS}'\nclaims = {{plan = 'x'}}\nsessions = 1\n",
            "line 1: a rule is for one `principal` or for some `claims`",
        ),
        ("[[limits]]\nclaims = {plan = 'x'}\nsessions = true\n", "line 3: sessions must be a whole number from 0"),
        ("[[limits]]\nopen_tasks = 3\n", "line 1: a rule is for one `principal` or for some `claims`"),
        ("[[limits]]\nopen_tasks = 3\nprincipal = 'ada'\n", "line 3: principal must be 64 hex digits"),
        ("[[limits]]\nopen_tasks = 3\nclaims = 'free'\n", "line 3: claims must name claims"),
        ("[[limits]]\nclaims.plan = 'free'\n", "line 1: the rule gives no limit"),
        ("limits = [{ claims = 3, sessions = 1 }]\n", "limits.toml, rule 1: claims must name claims"),
        (f"[[limits]]\nsessions = {'9' * 5000}\n", "limits.toml is no TOML that can be read: a number is too long"),
        (f"limits = {'[' * 20_000}", "limits.toml is no TOML that can be read: a number is too long, or it is nested"),
    ],
)
def test_a_mistake_in_the_file_is_refused_at_the_start_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_settings(ServerSettings, limits_file=tmp_path / "limits.toml")
    assert "TASKMILL_LIMITS_FILE: " in str(refused.value)
    assert words in str(refused.value)


def test_a_file_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        read_settings(ServerSettings, limits_file=tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_bytes(b"# \xff")
    with pytest.raises(SettingsError, match=r"limits\.toml cannot be read: it is no text in UTF-8"):
        read_settings(ServerSettings, limits_file=tmp_path / "limits.toml")


def test_a_file_that_is_exchanged_for_another_of_the_same_size_and_time_is_read(file: Path, tmp_path: Path) -> None:
    """as by `cp --preserve`, or by a mounted ConfigMap."""
    rules, other = LimitsFile(file), tmp_path / "other"
    other.write_text(RULES.replace("open_tasks = 5", "open_tasks = 6"))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert rules.limits_of(ADAS, {}, USUAL).open_tasks == 6


def test_a_changed_file_holds_at_once_and_a_mistake_in_it_changes_nothing(file: Path) -> None:
    rules = LimitsFile(file)
    with structlog.testing.capture_logs() as logs:
        file.write_text(RULES.replace("open_tasks = 5", "open_tasks = 66"))
        assert rules.limits_of(ADAS, {}, USUAL).open_tasks == 66
        file.write_text("[[limits]]\nprincipal = 1\n")
        assert rules.limits_of(ADAS, {}, USUAL).open_tasks == 66
        file.write_text(f"[[limits]]\nsessions = {'9' * 5000}\n")
        assert rules.limits_of(ADAS, {}, USUAL).open_tasks == 66
        os.remove(file)
        assert rules.limits_of(ADAS, {}, USUAL).open_tasks == 66
    assert [entry["event"] for entry in logs] == [
        "limits.file_read",
        "limits.file_unreadable",
        "limits.file_unreadable",
        "limits.file_unreadable",
    ]
    assert "line 2: principal must be" in logs[1]["why"]


def test_callers_without_a_token_are_no_one_in_particular(file: Path) -> None:
    settings = read_settings(ServerSettings, limits_file=file)
    assert settings.limits_of(ANONYMOUS, {"plan": "free"}) == PrincipalLimits(open_tasks=10_000)


async def test_a_rule_limits_the_calls_and_reruns_of_its_callers_only(
    redis: Redis, settings: ServerSettings, tmp_path: Path
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[[limits]]\nclaims = { sub = 'ada', client_id = 'app' }\nopen_tasks = 1\nrunning_tasks = 1\n")
    limited = settings.model_copy(update={"limits_file": file})
    async with (
        client_of(make_server(limited, **guarded_options())) as rpc,
        working(make_server(limited), limited),
    ):
        api = ApiClient(rpc)
        ada, bob = api.mcp(ADA), api.mcp(BOB)
        failed = await ada.task("complain", how="tool")
        await ada.done(failed)
        stays = await ada.task("stay")
        refused = (await ada.call("stay"))["error"]["data"]
        rerun = await api.post(f"/api/tasks/{failed}/rerun", ADA)
        await bob.task("stay")
        await bob.task("stay")
        lane = await redis.hget(Keys().record(stays), "lane")
    assert (refused["limit"], refused["allowed"]) == ("open_tasks", 1)
    assert (rerun.status_code, rerun.json()["error"]["code"]) == (429, "quota")
    assert lane == f"running {ADAS}".encode()
