"""Hosts that give a call up at their call timeout: their work goes on, and the next call is handed off in time."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.status import Status
from taskmill.server.protocol.cancellation import is_timeout
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from tests.server.session_client import next_message, open_session, rest
from tests.support.replica import Rpc, serving, working
from tests.support.sample_server import make_server
from tests.support.waiting import eventually_async

TIMED_OUT = "McpError: MCP error -32001: Request timed out"


@pytest.fixture(autouse=True)
def short_timeouts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts of these tests give up after a moment."""
    monkeypatch.setattr("taskmill.server.handlers.hand_off._SHORTEST", 0.0)


@pytest.fixture
async def url(redis: Redis, settings: ServerSettings) -> AsyncIterator[str]:
    """A replica that hands off late, and a worker."""
    patient = settings.model_copy(update={"drop_grace": 30.0})
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(make_server(patient).http_app()))
        await stack.enter_async_context(working(make_server(patient), patient))
        yield address + "/mcp"


@pytest.fixture
def gate(tmp_path: Path) -> str:
    """The file that the tool `until_exists` waits for."""
    return str(tmp_path / "gate")


async def tasks_of(redis: Redis) -> list[str]:
    """The state of each task there is."""
    keys = await redis.keys(Keys().record("*"))
    return [(await redis.hget(key, "status")).decode() for key in keys]


async def running(redis: Redis) -> None:
    """Wait until a task runs."""
    await eventually_async(lambda: _are(redis, [Status.RUNNING]))


async def has_running(redis: Redis, count: int) -> None:
    """Wait until so many tasks run."""
    await eventually_async(lambda: _run(redis, count))


async def _run(redis: Redis, count: int) -> bool:
    return (await tasks_of(redis)).count(Status.RUNNING) == count


async def _are(redis: Redis, states: list[str]) -> bool:
    return await tasks_of(redis) == states


async def has_keys(redis: Redis, pattern: str, count: int = 1) -> None:
    """Wait until there are so many keys."""

    async def look() -> bool:
        return len(await redis.keys(pattern)) == count

    await eventually_async(look)


async def _is_followed(redis: Redis, session_id: str | None) -> bool:
    """Whether a replica receives the signals of the session: after a moment of a call it does."""
    [(_, subscribers)] = await redis.pubsub_numsub(Keys().session(session_id or ""))
    return bool(subscribers)


def texts(reply: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in reply["result"]["content"])


async def given_up(rpc: Rpc, redis: Redis, gate: str) -> None:
    """A call whose client disconnects when it was held for a moment."""
    async with anyio.create_task_group() as calling:
        calling.start_soon(partial(rpc.call, "until_exists", path=gate))
        await running(redis)
        began = monotonic()
        await eventually_async(monotonic, lambda now: now > began + 0.6)
        calling.cancel_scope.cancel()


@pytest.mark.requirement("hand-off")
async def test_the_next_call_of_a_host_that_left_is_handed_off_before_its_limit(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    """It is the same call, which joins the task, and so is every `task_wait` after it."""
    rpc = Rpc(http, url, {})
    with capture_logs() as logs:
        await given_up(rpc, redis, gate)
        (line,) = await eventually_async(lambda: [line for line in logs if line["event"] == "client.gave_up"])
    with anyio.fail_after(30):
        assert "task_wait" in texts(await rpc.call("until_exists", path=gate))
    assert len(await tasks_of(redis)) == 1
    Path(gate).touch()
    assert line["how"] == "disconnected"
    assert line["held_for"] > 0.5


async def test_what_one_client_taught_counts_for_no_other(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    """Neither for another session of a host of the same name, nor for another host."""
    one, other = await open_session(http, url, name="some host"), await open_session(http, url, name="some host")
    async with one.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        await running(redis)
        await eventually_async(lambda: _is_followed(redis, one.id))
        await one.notify("notifications/cancelled", requestId=one._number, reason=TIMED_OUT)
        assert "error" in await next_message(frames)
    await has_keys(redis, Keys().call_timeout("*"))
    for number, session in enumerate((other, await open_session(http, url, name="other host")), 1):
        its_gate = f"{gate}-{number}"
        async with session.streaming("tools/call", name="until_exists", arguments={"path": its_gate}) as frames:
            await has_running(redis, 2)
            Path(its_gate).touch()
            assert (await rest(frames))[-1].message["result"]["content"][0]["text"] == "there"
    Path(gate).touch()


async def test_a_reason_is_remembered_longer_than_a_disconnect(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    """A day and an hour: a person may have ended the host that disconnected."""
    await given_up(Rpc(http, url, {}), redis, gate)
    await has_keys(redis, Keys().call_timeout("*"))
    (by_disconnect,) = await redis.keys(Keys().call_timeout("*"))
    session = await open_session(http, url)
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        await has_running(redis, 2)
        await eventually_async(lambda: _is_followed(redis, session.id))
        await session.notify("notifications/cancelled", requestId=session._number, reason=TIMED_OUT)
        assert "error" in await next_message(frames)
    await has_keys(redis, Keys().call_timeout("*"), 2)
    (by_reason,) = set(await redis.keys(Keys().call_timeout("*"))) - {by_disconnect}
    hours = [await redis.ttl(key) / 3600 for key in (by_disconnect, by_reason)]
    assert hours == [pytest.approx(1, abs=0.1), pytest.approx(24, abs=0.1)]
    Path(gate).touch()


async def test_a_client_that_leaves_at_once_teaches_nothing(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No host has so short a call timeout, in truth two seconds: a person pressed Ctrl-C."""
    monkeypatch.setattr("taskmill.server.handlers.hand_off._SHORTEST", 60.0)
    await given_up(Rpc(http, url, {}), redis, gate)
    await has_keys(redis, Keys().left("*"))
    assert await redis.keys(Keys().call_timeout("*")) == []
    Path(gate).touch()


async def test_a_known_host_that_left_teaches_nothing(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    """A person has ended it: what is known of its call timeout counts."""
    session = await open_session(http, url, name="claude-code")
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}):
        await running(redis)
        await anyio.lowlevel.checkpoint()
    await has_keys(redis, Keys().left("*"))
    assert await redis.keys(Keys().call_timeout("*")) == []
    Path(gate).touch()


async def test_a_call_that_its_host_gave_up_goes_on_and_the_same_call_joins_it(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    """`notifications/cancelled` with a call timeout as its reason; the host and its limit may be known or not."""
    session = await open_session(http, url, name="claude-code")
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        await running(redis)
        await eventually_async(lambda: _is_followed(redis, session.id))
        await session.notify("notifications/cancelled", requestId=session._number, reason=TIMED_OUT)
        assert "error" in await next_message(frames)
    await has_keys(redis, Keys().left("*"))
    assert await tasks_of(redis) == [Status.RUNNING]
    assert "task_wait" in texts(await session.call("until_exists", path=gate))
    assert len(await tasks_of(redis)) == 1
    Path(gate).touch()


@pytest.mark.parametrize("reason", ["The user pressed Esc", ""])
async def test_a_persons_cancel_stays_a_cancel(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str, reason: str
) -> None:
    session = await open_session(http, url)
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        await running(redis)
        await session.notify("notifications/cancelled", requestId=session._number, reason=reason)
        assert "error" in await next_message(frames)
    assert await tasks_of(redis) == [Status.CANCELLED]
    assert await redis.keys(Keys().left("*")) == []


async def test_the_same_call_before_2026_joins_the_task_of_the_call_that_was_disconnected(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    session = await open_session(http, url, name="claude-code")
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}):
        await running(redis)
    await has_keys(redis, Keys().left("*"))
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        await has_keys(redis, Keys().left("*"), 0)
        Path(gate).touch()
        assert (await rest(frames))[-1].message["result"]["content"][0]["text"] == "there"
    assert await tasks_of(redis) == [Status.COMPLETED]


async def test_a_call_whose_stream_was_resumed_is_joined_by_no_other(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    session = await open_session(http, url)
    async with session.streaming("tools/call", name="until_exists", arguments={"path": gate}) as frames:
        cursor = (await anext(frames)).id
        await running(redis)
    await has_keys(redis, Keys().left("*"))
    async with session.listening(cursor):
        await has_keys(redis, Keys().left("*"), 0)
    Path(gate).touch()


async def test_an_anonymous_session_joins_no_task_of_another(
    url: str, http: httpx2.AsyncClient, redis: Redis, gate: str
) -> None:
    one, other = [await open_session(http, url, name="claude-code") for _ in range(2)]
    async with one.streaming("tools/call", name="until_exists", arguments={"path": gate}):
        await running(redis)
    await has_keys(redis, Keys().left("*"))
    async with other.streaming("tools/call", name="until_exists", arguments={"path": gate}):
        await has_keys(redis, Keys().record("*"), 2)
    Path(gate).touch()


async def test_a_clients_first_call_and_a_hand_off_are_logged(
    redis: Redis, settings: ServerSettings, http: httpx2.AsyncClient, gate: str
) -> None:
    soon = settings.model_copy(update={"handoff_after": 0.3})
    async with serving(make_server(soon).http_app()) as address, working(make_server(soon), soon):
        session = await open_session(http, address + "/mcp", name="somebody's host")
        with capture_logs() as logs:
            await session.call("until_exists", path=gate)
            await session.call("until_exists", path=gate)
            await Rpc(http, address + "/mcp").task("steps", count=1)
        Path(gate).touch()
    connected = [line for line in logs if line["event"] == "client.connected"]
    first, second = ({name: line[name] for name in ("client", "revision", "client_class")} for line in connected)
    assert first == {"client": "somebody's host", "revision": "2025-11-25", "client_class": "without tasks"}
    assert (second["revision"], second["client_class"]) == ("2026-07-28", "tasks 2026")
    assert (connected[0]["handoff_after"], connected[1]["handoff_after"]) == (0.3, None)
    assert len([line for line in logs if line["event"] == "call.handed_off"]) == 2


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (TIMED_OUT, True),
        ("timed out after 5s", True),
        ("Request timeout", True),
        ("time-out", True),
        ("deadline exceeded", True),
        ("User cancelled", False),
        ("AbortError: This operation was aborted", False),
        ("sometimes outside", False),
        (None, False),
        (5, False),
    ],
)
def test_the_reason_tells_a_call_timeout_from_a_person(reason: Any, expected: bool) -> None:
    assert is_timeout({"requestId": 1, "reason": reason}) is expected
    assert is_timeout(None) is False
