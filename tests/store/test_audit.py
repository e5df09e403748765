"""The audit trail of a process: what reaches a file, a log and Redis, and what does not."""

import asyncio
import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.errors import SettingsError, TaskNotFound
from taskmill.store.audit import trail as trails
from taskmill.store.audit.records import (
    Action,
    ActorFacts,
    ActorKind,
    AuditRecord,
    Outcome,
    Reason,
    acting_as,
    record,
    record_refusal_of,
)
from taskmill.store.audit.stream import AuditFilter, AuditStream
from taskmill.store.audit.trail import AuditTrail
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings, read_settings
from tests.support.audit_lines import audit_lines
from tests.support.waiting import eventually_async


class Somebody:
    """An actor of a test."""

    def __init__(self, trail: AuditTrail, who: str = "ada", kind: ActorKind = ActorKind.USER) -> None:
        self.trail = trail
        self.known = ActorFacts(kind, who, address="192.0.2.1", via="http")

    def facts(self) -> ActorFacts:
        return self.known

    def leave(self, entry: AuditRecord) -> None:
        self.trail.leave(entry)


def stream_of(redis: Redis, settings: StoreSettings) -> AuditStream:
    return AuditStream(redis, settings, Keys(settings.prefix))


def trail_of(redis: Redis, settings: StoreSettings, sinks: str, **given: Any) -> AuditTrail:
    settings = settings.model_copy(update={"audit": sinks, **given})
    return AuditTrail(settings, stream_of(redis, settings))


async def all_of(redis: Redis, settings: StoreSettings, **wanted: Any) -> list[dict[str, Any]]:
    page = await stream_of(redis, settings).page(AuditFilter(**wanted), limit=500)
    return list(page.records)


async def test_a_record_reaches_every_sink_with_the_same_fields(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    with capture_logs() as logs:
        async with trail_of(redis, settings, f"log,file:{file},redis") as trail:
            with acting_as(Somebody(trail)):
                record(Action.QUEUE_PAUSED, target="default")
    [line] = audit_lines(file)
    assert list(line) == [
        *("v", "id", "time", "action", "outcome", "reason", "actor", "who", "roles", "subject", "client", "address"),
        *("via", "task", "tool", "target", "count", "request"),
    ]
    assert (line["action"], line["outcome"], line["who"], line["target"]) == ("queue.paused", "ok", "ada", "default")
    [logged] = [entry for entry in logs if entry["event"] == "audit"]
    assert {name: logged[name] for name in line} == line
    [stored] = await all_of(redis, settings)
    assert {name: stored[name] for name in line} == line


async def test_without_a_trail_nothing_is_recorded_and_nothing_sent(redis: Redis, settings: StoreSettings) -> None:
    record(Action.QUEUE_PAUSED, target="default")
    assert await redis.keys("*") == []


async def test_a_flood_of_refusals_is_counted_and_none_of_them_is_left_out(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        for who in ("eve", "mallory"):
            with acting_as(Somebody(trail, who)):
                for number in range(1165):
                    record(
                        Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_TASK, task=f"t{number}"
                    )
    told = audit_lines(file)
    assert len(told) < 300
    counts = {who: sum(line["count"] for line in told if line["who"] == who) for who in ("eve", "mallory")}
    assert counts == {"eve": 1165, "mallory": 1165}
    assert all(line["task"] is None for line in told if line["count"] > 1)


async def test_what_was_only_counted_is_written_after_a_moment_of_silence_and_names_no_single_request(
    redis: Redis, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "_WINDOW", 0.05)
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        for who, times in (("ada", 20), ("eve", 50)):
            somebody = Somebody(trail, who)
            somebody.known = replace(somebody.known, request="7" * 16)
            with acting_as(somebody):
                trail._window_ends = monotonic() + 3600
                for _ in range(times):
                    record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_TASK)
        trail._window_ends = 0.0
        told = await eventually_async(
            lambda: audit_lines(file), lambda found: sum(line["count"] for line in found) == 70, within=20
        )
    counted = [(line["who"], line["count"], line["request"]) for line in told if line["count"] != 1]
    assert counted == [("eve", 30, None)]


async def test_of_more_records_than_wait_for_redis_the_oldest_are_lost_and_the_trail_says_how_many(
    redis: Redis, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "_WAITING", 5)
    async with trail_of(redis, settings, "redis") as trail:
        with acting_as(Somebody(trail)):
            for number in range(8):
                record(Action.TASK_CREATED, task=f"t{number}")
    kept = [(entry["action"], entry["count"], entry["task"]) for entry in await all_of(redis, settings)]
    assert kept == [*(("task.created", 1, f"t{number}") for number in (7, 6, 5, 4, 3)), ("audit.lost", 3, None)]


async def test_what_redis_did_not_take_before_the_exit_is_logged_as_lost(
    redis: Redis, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "_CLOSE_TIMEOUT", 0.01)
    await redis.config_set("maxmemory", "1")
    try:
        with capture_logs() as logs:
            async with trail_of(redis, settings, "redis") as trail:
                with acting_as(Somebody(trail)):
                    for number in range(3):
                        record(Action.TASK_CREATED, task=f"t{number}")
    finally:
        await redis.config_set("maxmemory", "0")
    assert [entry["count"] for entry in logs if entry["event"] == "audit.lost"] == [3]


async def test_refusals_of_one_caller_from_two_addresses_are_told_apart(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        trail._window_ends = monotonic() + 3600
        for address in ("192.0.2.1", "192.0.2.2"):
            somebody = Somebody(trail, "eve")
            somebody.known = replace(somebody.known, address=address)
            with acting_as(somebody):
                for _ in range(25):
                    record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.BAD_TOKEN)
    counted = [(line["address"], line["count"]) for line in audit_lines(file) if line["count"] != 1]
    assert counted == [("192.0.2.1", 5), ("192.0.2.2", 5)]


async def test_redis_forgets_what_is_older_than_the_retention(redis: Redis, settings: StoreSettings) -> None:
    key = Keys(settings.prefix).audit
    async with redis.pipeline() as pipe:
        for number in range(1, 301):
            pipe.xadd(key, {"r": "{}"}, id=f"{number}-1")
        await pipe.execute()
    async with trail_of(redis, settings, "redis") as trail:
        with acting_as(Somebody(trail)):
            record(Action.TASK_CREATED, task="fresh")
    assert await redis.xlen(key) < 200


async def test_invented_callers_do_not_fill_the_memory(redis: Redis, settings: StoreSettings, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        for number in range(10_500):
            with acting_as(Somebody(trail, f"caller {number}")):
                record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=Reason.BAD_TOKEN)
        assert len(trail._seen) <= 10_010
    assert sum(line["count"] for line in audit_lines(file)) == 10_500


async def test_a_record_holds_no_made_up_id_no_endless_text_and_one_refusal_once(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)):
            record(Action.TASK_READ, task="no id\n", target="x" * 1000)
            refused = TaskNotFound(task_id="t1")
            record_refusal_of(refused)
            record_refusal_of(refused)
    read, *refusals = audit_lines(file)
    assert (read["task"], read["target"]) == (None, "x" * 200 + "…")
    assert [one["task"] for one in refusals] == ["t1"]


async def test_what_is_done_is_never_only_counted(redis: Redis, settings: StoreSettings, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)):
            for number in range(200):
                record(Action.TASK_CANCELLED, task=f"t{number}")
    assert [line["task"] for line in audit_lines(file)] == [f"t{number}" for number in range(200)]


async def test_a_file_is_for_its_owner_only_and_goes_on_after_a_rotation(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)):
            record(Action.TASK_CREATED, task="first")
            file.rename(old)
            record(Action.TASK_CREATED, task="second")
            file.unlink()
            record(Action.TASK_CREATED, task="third")
    assert [line["task"] for line in (*audit_lines(old), *audit_lines(file))] == ["first", "third"]
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_loses_records_and_says_how_many(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = folder / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)), capture_logs() as logs:
            file.unlink()
            folder.rename(tmp_path / "elsewhere")
            record(Action.TASK_CREATED, task="lost")
            record(Action.TASK_CREATED, task="lost too")
            folder.mkdir()
            record(Action.TASK_CREATED, task="kept")
    assert [(line["action"], line["count"]) for line in audit_lines(file)] == [("audit.lost", 2), ("task.created", 1)]
    assert [entry["event"] for entry in logs] == ["audit.unwritable", "audit.lost"]


async def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it_and_each_loss_is_counted_once(
    redis: Redis, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in mid-line, has room for the count of what was lost and no more, and is emptied."""
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b'{"of":"a machine that stopped')
    room = [0, 10, 500, 0]  # bytes that a write may have: nothing, a part of a line, one line, nothing

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            return really(descriptor, data)
        if not (most := room.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, data[:most])

    really = os.write
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)), monkeypatch.context() as patched:
            patched.setattr(os, "write", write)
            for task in ("lost", "cut", "lost too", "kept", "last"):
                record(Action.TASK_CREATED, task=task)

    whole = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    assert [(line["action"], line["count"], line["task"]) for line in whole] == [
        ("audit.lost", 2, None),
        ("audit.lost", 1, None),
        ("task.created", 1, "kept"),
        ("task.created", 1, "last"),
    ]


async def test_a_pipe_in_the_place_of_the_file_holds_nothing_up(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    async with trail_of(redis, settings, f"file:{file}") as trail:
        with acting_as(Somebody(trail)), capture_logs() as logs:
            file.unlink()
            os.mkfifo(file)
            record(Action.TASK_CREATED, task="lost")
            file.unlink()
            record(Action.TASK_CREATED, task="kept")
    assert [(line["action"], line["count"]) for line in audit_lines(file)] == [("audit.lost", 1), ("task.created", 1)]
    assert logs[0]["why"] == "it is no regular file"


async def test_redis_keeps_the_newest_records_for_the_retention(redis: Redis, settings: StoreSettings) -> None:
    async with trail_of(redis, settings, "redis", audit_entries=100, audit_retention=3600.0) as trail:
        with acting_as(Somebody(trail)):
            for number in range(1000):
                record(Action.TASK_CREATED, task=f"t{number}")
    kept = await all_of(redis, settings)
    assert 100 <= len(kept) < 300
    assert kept[0]["task"] == "t999"
    assert 3500 < await redis.ttl(Keys(settings.prefix).audit) <= 3600


async def test_records_of_an_outage_of_redis_are_sent_after_it(redis: Redis, settings: StoreSettings) -> None:
    await redis.config_set("maxmemory", "1")
    try:
        async with trail_of(redis, settings, "redis") as trail:
            with acting_as(Somebody(trail)), capture_logs() as logs, anyio.fail_after(30):
                record(Action.TASK_CREATED, task="meanwhile")
                while "audit.waits" not in [entry["event"] for entry in logs]:
                    await asyncio.sleep(0.02)
            await redis.config_set("maxmemory", "0")
            with anyio.fail_after(30):
                while not await redis.exists(Keys(settings.prefix).audit):
                    await asyncio.sleep(0.02)
    finally:
        await redis.config_set("maxmemory", "0")
    assert [entry["task"] for entry in await all_of(redis, settings)] == ["meanwhile"]


async def test_pages_go_back_to_the_first_record_and_forward_again(redis: Redis, settings: StoreSettings) -> None:
    async with trail_of(redis, settings, "redis") as trail:
        for who, kind in (("ada", ActorKind.USER), ("ops", ActorKind.OPERATOR)):
            with acting_as(Somebody(trail, who, kind)):
                for number in range(30):
                    record(Action.TASK_CANCELLED if number % 2 else Action.TASK_CREATED, task=f"{who}{number}")
    stream = stream_of(redis, settings)
    back: list[str] = []
    cursor: str | None = None
    while len(back) < 60:
        page = await stream.page(AuditFilter(), limit=7, before=cursor)
        back += [entry["task"] for entry in page.records]
        cursor = page.next
    assert back == [f"{who}{number}" for who in ("ops", "ada") for number in reversed(range(30))]
    forward = await stream.page(AuditFilter(), limit=500, after="0")
    assert [entry["task"] for entry in forward.records] == back[::-1]
    assert len(await all_of(redis, settings, who="operator")) == 30
    assert len(await all_of(redis, settings, who="ad", action="task.cancelled")) == 15
    assert [entry["task"] for entry in await all_of(redis, settings, task="ops7")] == ["ops7"]
    assert await all_of(redis, settings, action="queue.") == await all_of(redis, settings, action="task") == []
    assert (await stream.page(AuditFilter(), limit=9, after=forward.next)).records == ()
    assert await all_of(redis, settings, since_ms=int(time() * 1000) + 3_600_000) == []
    assert len(await all_of(redis, settings, since_ms=int(time() * 1000) - 3_600_000)) == 60


@pytest.mark.parametrize("given", ["paper", "file:", "log:x", "log,log", "redis:1"])
def test_a_sink_that_does_not_exist_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="TASKMILL_AUDIT"):
        read_settings(StoreSettings, audit=given)


def test_a_file_that_cannot_be_opened_stops_the_start(redis: Redis, settings: StoreSettings, tmp_path: Path) -> None:
    """A pipe too, which would wait for its reader."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none" / "audit.jsonl", tmp_path, tmp_path / "link", tmp_path / "pipe"):
        with pytest.raises(SettingsError, match="cannot be opened"):
            trail_of(redis, settings, f"file:{path}")
