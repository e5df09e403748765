"""The events of a task as SSE: all of them, each once, from any replica, whenever a reader reconnects."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
import structlog
from redis.asyncio import Redis

from taskmill.engine.record import Progress
from taskmill.server.streams import event_stream
from taskmill.store.settings import StoreSettings
from tests.server.api_client import ADA, BOB, OPERATOR_TOKEN, ApiClient, bearer, refusal
from tests.support.replica import Json, Rpc, client_of, working
from tests.support.sample_server import make_server
from tests.support.store_fixture import StoreFixture
from tests.support.tokens import guarded_options


@pytest.fixture
async def site(redis: Redis, settings: StoreSettings) -> AsyncIterator[ApiClient]:
    """A replica without authentication, and a worker."""
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        yield ApiClient(rpc)


@asynccontextmanager
async def reading(site: ApiClient, task_id: str, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[Json]]:
    """An open stream: each event as `id`, `event`, `data` and so on; comments as `comment`."""
    url = f"{site.address}/api/tasks/{task_id}/events{query}"
    async with site.rpc.http.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _frames(response)


async def _frames(response: httpx2.Response) -> AsyncIterator[Json]:
    frame: Json = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if line:
            frame[name or "comment"] = value.strip()
        elif frame:
            yield {**frame, "data": json.loads(frame["data"])} if "data" in frame else frame
            frame = {}


async def whole(site: ApiClient, task_id: str, query: str = "", **headers: str) -> list[Json]:
    """A stream up to its end, which must come."""
    with anyio.fail_after(30):
        async with reading(site, task_id, query, **headers) as frames:
            return [frame async for frame in frames]


async def ended(site: ApiClient, count: int = 3) -> tuple[str, list[Json]]:
    """A task that has ended, and its history."""
    task_id = await site.rpc.task("steps", count=count)
    await site.until(task_id, "completed")
    return task_id, (await site.get(f"/api/tasks/{task_id}?history=1")).json()["events"]


async def test_a_stream_sends_the_whole_history_and_closes_after_the_end(site: ApiClient) -> None:
    task_id, history = await ended(site)

    frames = await whole(site, task_id)

    assert [frame["data"] for frame in frames] == history
    assert [frame["id"] for frame in frames] == [str(event["event"]) for event in history]
    assert [frame["event"] for frame in frames] == [event["move"] for event in history]
    assert [frame.get("retry") for frame in frames] == ["1000"] + [None] * (len(history) - 1)


async def test_events_come_as_they_happen(site: ApiClient, tmp_path: Path) -> None:
    task_id = await site.rpc.task("until_exists", path=str(tmp_path / "gate"))

    with anyio.fail_after(30):
        async with reading(site, task_id) as frames:
            begun = [(await anext(frames))["event"] for _ in range(2)]
            (tmp_path / "gate").touch()
            rest = [frame["event"] async for frame in frames]

    assert (begun, rest) == (["create", "claim"], ["complete"])


async def test_a_reader_that_reconnects_gets_what_it_missed_and_nothing_twice(site: ApiClient) -> None:
    task_id, history = await ended(site)

    for after in range(len(history)):
        expected = [str(event["event"]) for event in history[after:]]
        assert [frame["id"] for frame in await whole(site, task_id, **{"last-event-id": str(after)})] == expected
        assert [frame["id"] for frame in await whole(site, task_id, f"?after={after}")] == expected


async def test_the_header_of_a_browser_that_reconnects_counts_more_than_the_address(site: ApiClient) -> None:
    """It repeats the address, with the old number in it."""
    task_id, _ = await ended(site)

    frames = await whole(site, task_id, "?after=1", **{"last-event-id": "2"})

    assert frames[0]["id"] == "3"


async def test_a_reader_that_has_everything_gets_204(site: ApiClient) -> None:
    """HTML, server-sent events: a reader does not reconnect after 204."""
    task_id, history = await ended(site)

    reply = await site.get(f"/api/tasks/{task_id}/events", **{"last-event-id": str(len(history))})

    assert (reply.status_code, reply.content) == (204, b"")


async def test_a_stream_goes_on_at_another_replica_when_the_first_is_gone(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    async with working(make_server(settings), settings), client_of(make_server(settings)) as stays:
        async with client_of(make_server(settings)) as leaves:
            task_id = await leaves.task("until_exists", path=str(tmp_path / "gate"))
            async with reading(ApiClient(leaves), task_id) as frames:
                seen = [(await anext(frames))["id"]]

        (tmp_path / "gate").touch()
        seen += [frame["id"] for frame in await whole(ApiClient(stays), task_id, **{"last-event-id": seen[-1]})]

    assert seen == ["1", "2", "3"]


async def test_a_cursor_that_is_no_event_number_is_refused(site: ApiClient) -> None:
    task_id = await site.rpc.task("stay")
    url = f"{site.address}/api/tasks/{task_id}/events"

    for named in ("x", "-1", "1.5", "1e3", "0x1", "1 2", "9" * 16, "1;2", "task-1", "\u0661"):
        in_header = await site.rpc.http.get(url, headers={b"last-event-id": named.encode()})  # type: ignore[dict-item]
        in_address = await site.rpc.http.get(url, params={"after": named})
        assert {refusal(in_header), refusal(in_address)} == {(400, "bad_request")}, named


@pytest.mark.parametrize("tool", ["stay", "steps"])
async def test_a_cursor_beyond_the_last_event_is_refused(site: ApiClient, tool: str) -> None:
    """No reader can have received it."""
    task_id = await site.rpc.task(tool, **({"count": 1} if tool == "steps" else {}))
    await site.until(task_id, "running" if tool == "stay" else "completed")

    reply = await site.get(f"/api/tasks/{task_id}/events", **{"last-event-id": "999"})

    assert refusal(reply) == (400, "bad_request")
    assert "Event 999 of this task has not happened" in reply.text


async def test_an_empty_cursor_means_from_the_beginning(site: ApiClient) -> None:
    """HTML: a reader that has seen no id sends an empty one, or none."""
    task_id, history = await ended(site)

    assert len(await whole(site, task_id, **{"last-event-id": ""})) == len(history)


async def test_the_cursor_of_an_expired_task_finds_nothing(
    site: ApiClient, settings: StoreSettings, redis: Redis
) -> None:
    short = settings.model_copy(update={"retention_limit": 1.0})
    async with client_of(make_server(short)) as rpc:
        task_id = await rpc.task("steps", count=1)
        await site.until(task_id, "completed")
    with anyio.fail_after(30):
        while (reply := await site.get(f"/api/tasks/{task_id}/events", **{"last-event-id": "3"})).status_code != 404:
            await anyio.sleep(0.05)

    assert refusal(reply) == (404, "not_found")


async def test_a_stream_is_for_the_tasks_owner_and_operators(redis: Redis, settings: StoreSettings) -> None:
    async with client_of(make_server(settings, **guarded_options()), operator_token=OPERATOR_TOKEN) as rpc:
        site = ApiClient(rpc)
        task_id = await site.mcp(ADA).task("stay")
        path = f"/api/tasks/{task_id}/events"

        assert refusal(await site.get(path)) == (401, "invalid_token")
        for cursor in ("", "1", "999"):
            assert refusal(await site.get(path, BOB, **{"last-event-id": cursor})) == (404, "not_found")
        for token, private in ((ADA, set()), (OPERATOR_TOKEN, {"principal", "id"})):
            async with reading(site, task_id, **bearer(token)) as frames:
                facts = (await anext(frames))["data"]["facts"]
            assert set(facts) == {"tool", "queue", "retention_ms", "poll_ms"} | private


async def test_a_head_request_does_not_wait_for_the_end(site: ApiClient) -> None:
    task_id = await site.rpc.task("stay")

    with anyio.fail_after(30):
        reply = await site.rpc.http.head(f"{site.address}/api/tasks/{task_id}/events")

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_a_silent_stream_is_kept_alive_with_comments(site: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "COMMENT_EVERY", 0.05)
    task_id = await site.rpc.task("stay")
    await site.until(task_id, "running")

    with anyio.fail_after(30):
        async with reading(site, task_id) as frames:
            async for frame in frames:
                if "comment" in frame:
                    break

    assert set(frame) == {"comment"}


async def test_many_readers_of_many_tasks_share_one_subscription(site: ApiClient, redis: Redis, tmp_path: Path) -> None:
    tasks = [await site.rpc.task("until_exists", path=str(tmp_path / "gate")) for _ in range(3)]
    got: list[list[str]] = [[] for _ in range(30)]
    subscribed = 0

    async def read(number: int) -> None:
        async with reading(site, tasks[number % 3]) as frames:
            async for frame in frames:
                got[number].append(frame["event"])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(read, number)
            while not all(len(one) == 2 for one in got):
                await anyio.sleep(0.01)
            counts = await redis.pubsub_numsub(*[f"{{taskmill}}:task:{task_id}" for task_id in tasks])
            subscribed = len([one for one in await redis.client_list() if int(one["sub"]) > 1])
            (tmp_path / "gate").touch()

    assert got == [["create", "claim", "complete"]] * 30
    assert [count for _, count in counts] == [1, 1, 1]
    assert subscribed == 1


async def test_a_reader_that_does_not_read_is_dropped_and_the_others_miss_nothing(
    redis: Redis, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT", 1.0)
    stores = StoreFixture(redis, settings)
    claimed = await stores.start(principal="anonymous")
    reports = [(claimed.id, claimed.fence, Progress(number, None, "x" * 900)) for number in range(9000)]
    await stores.report(*reports)
    app = make_server(settings)
    async with client_of(app) as rpc:
        site = ApiClient(rpc)
        deaf = _deaf_reader(rpc, claimed.id)
        try:
            with structlog.testing.capture_logs() as logs, anyio.fail_after(30):
                async with reading(site, claimed.id) as frames:
                    async for frame in frames:
                        if frame.get("id") == "9002":  # a slow machine is sent comments too
                            break
                    while not any(line["event"] == "events.reader_dropped" for line in logs):
                        await anyio.sleep(0.01)
                while app.store.tails._tails:
                    await anyio.sleep(0.01)
        finally:
            deaf.close()


def _deaf_reader(rpc: Rpc, task_id: str) -> socket.socket:
    """Requests events and reads none of them."""
    host, port = rpc.url.removeprefix("http://").removesuffix("/mcp").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(f"GET /api/tasks/{task_id}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return connection


async def test_a_stream_waits_out_an_outage_of_the_store(site: ApiClient, redis: Redis, tmp_path: Path) -> None:
    """Every connection to Redis is closed; the reader's stays open."""
    task_id = await site.rpc.task("until_exists", path=str(tmp_path / "gate"))
    await site.until(task_id, "running")

    with anyio.fail_after(30):
        async with reading(site, task_id) as frames:
            seen = [(await anext(frames))["event"] for _ in range(2)]
            for kind in ("normal", "pubsub"):
                await redis.client_kill_filter(_type=kind, skipme=True)
            (tmp_path / "gate").touch()
            seen += [frame["event"] async for frame in frames if "event" in frame]

    assert seen == ["create", "claim", "complete"]
