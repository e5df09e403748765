"""Large calls are worked on in pieces, one in an iteration of the event loop: others are served between them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.engine.principal import ANONYMOUS
from taskmill.server.fast_path import middleware
from taskmill.server.http.large_bodies import LargeBodies
from taskmill.server.limits.large_work import LargeWork, is_large_request
from taskmill.server.settings import ServerSettings
from taskmill.server.tools.runtime import ServerRuntime
from tests.server.api_client import ADA, BOB, client_with
from tests.support.replica import client_of
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

PIECES = 3
"""Of a large call of a task tool: its JSON is read, its arguments are checked, they are written for the store."""


class Replica:
    """A server with tokens, and what it does with large calls, in order."""

    def __init__(self, url: str, mcp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ada, self.bob = client_with(url, ADA), client_with(url, BOB)
        self.mcp = mcp
        self.work: Any = mcp._runtime.large_work
        self.done: list[tuple[str, int]] = []
        """Each piece, and in which iteration of the event loop it was done."""
        self.iteration = 0
        self._watch(monkeypatch, middleware, "read_request")
        self._watch(monkeypatch, mcp, "validate")
        self._watch(monkeypatch, mcp.store, "pack")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        function = getattr(where, name)

        def watched(*args: Any, **more: Any) -> Any:
            if is_large_request():
                self.done.append((name, self.iteration))
            return function(*args, **more)

        monkeypatch.setattr(where, name, watched)

    async def count_iterations(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.iteration += 1

    def start_large(self, count: int) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.ada.call("until_exists", path="x" * 200_000)) for _ in range(count)]


@pytest.fixture
async def replica(redis: Redis, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replica]:
    mcp = make_server(settings.model_copy(update={"max_arguments": 1_000_000}), **guarded_options())
    async with client_of(mcp) as rpc:
        yield Replica(rpc.url, mcp, monkeypatch)


async def test_small_calls_are_answered_between_any_two_pieces_of_ten_large_calls(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica.work, "_after_piece", lambda: None)  # the next piece waits until the test lets it go
    calls = replica.start_large(10)
    with anyio.fail_after(60):
        for number in range(10 * PIECES):
            while len(replica.done) == number:
                await asyncio.sleep(0)
            if number % 3 == 0:
                assert "result" in await replica.bob.call("until_exists", path="x")
            assert len(replica.done) == number + 1, "no piece of a large call was done meanwhile"
            while number + 1 < 10 * PIECES and not replica.work._waiting:
                await asyncio.sleep(0)
            replica.work._next()
        assert all("result" in reply for reply in await asyncio.gather(*calls))


async def test_no_iteration_of_the_event_loop_does_two_pieces_of_large_calls(replica: Replica) -> None:
    counting = asyncio.create_task(replica.count_iterations())
    with anyio.fail_after(60):
        replies = await asyncio.gather(*replica.start_large(5))
    counting.cancel()
    assert all("result" in reply for reply in replies)
    names = [name for name, _ in replica.done]
    assert sorted(names) == sorted(["read_request", "validate", "pack"] * 5)
    assert len({iteration for _, iteration in replica.done}) == len(replica.done)


async def test_a_large_call_that_has_no_room_is_refused_before_its_arguments_are_checked(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskmill.server.limits.full_callers._FOR", 3600)
    monkeypatch.setattr(replica.mcp._runtime.settings, "kept_bytes_limit", 20_000)
    first, again = [await replica.ada.call("until_exists", path="x" * 200_000) for _ in range(2)]
    assert first["error"] == again["error"]
    assert again["error"]["data"]["limit"] == "kept_bytes"
    assert [name for name, _ in replica.done] == ["read_request", "validate", "pack", "read_request"]

    monkeypatch.setattr(replica.mcp._runtime.settings, "creation_rate", 0.01)
    assert "result" in await replica.bob.call("until_exists", path="x"), "one may be made at once"
    refused = await replica.bob.call("until_exists", path="x" * 200_000)
    assert refused["error"]["data"]["limit"] == "creations"
    assert [name for name, _ in replica.done][4:] == ["read_request"]


async def _piece(work: LargeWork, who: str, done: list[str]) -> None:
    await work.wait(who)
    done.append(who)


async def test_callers_have_their_pieces_in_rotation_and_one_who_gave_up_holds_no_one_up() -> None:
    work, done = LargeWork(), list[str]()
    async with asyncio.TaskGroup() as group:
        for who in ("ada", "ada", "ada", "ada", "bob", "cleo", "bob"):
            task = group.create_task(_piece(work, who, done))
            if who == "cleo":
                gave_up = task
        await asyncio.sleep(0)
        gave_up.cancel()
    assert done == ["ada", "ada", "bob", "ada", "bob", "ada"]


async def test_seventeenth_large_body_of_a_caller_is_not_read_before_another_one_is_whole() -> None:
    work, held, read = LargeWork(), asyncio.Event(), list[str]()

    async def receive(who: str) -> None:
        async with work.receiving(who):
            read.append(who)
            await held.wait()

    async with asyncio.TaskGroup() as group:
        for who in ["ada"] * 17 + ["bob"] + [ANONYMOUS] * 20:
            group.create_task(receive(who))
        await asyncio.sleep(0)
        assert (read.count("ada"), read.count("bob"), read.count(ANONYMOUS)) == (16, 1, 20)
        held.set()
    assert read.count("ada") == 17
    assert not work._receiving


class TestPace:
    @pytest.fixture
    def work(self) -> LargeWork:
        return LargeWork()

    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Seconds for which bodies are kept, instead of that time passing."""
        waits = list[float]()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr("taskmill.server.limits.large_work.sleep", sleep)
        return waits

    async def test_large_bodies_of_one_caller_have_a_rate_while_another_sends_requests(
        self, work: LargeWork, waits: list[float]
    ) -> None:
        work.note("ada")
        work.note("bob")
        for who, size in [("ada", 2_000_000), ("ada", 1_000_000), ("bob", 1_000_000), ("ada", 90_000_000), ("ada", 1)]:
            await work.pace(who, size)
        assert waits == pytest.approx([0.5, 0.75, 1.75], abs=0.1)

    async def test_large_bodies_of_a_caller_who_is_alone_or_has_no_token_do_not_wait(
        self, work: LargeWork, waits: list[float]
    ) -> None:
        work.note("ada")
        for _ in range(3):
            await work.pace("ada", 4_000_000)
        work.note(ANONYMOUS)
        for _ in range(3):
            await work.pace(ANONYMOUS, 4_000_000)
        assert not waits
        assert not work._paced

    async def test_a_caller_without_large_bodies_is_forgotten(self, work: LargeWork) -> None:
        work.note("ada")
        work.note("bob")
        await work.pace("ada", 4_000)
        await work.pace("ada", 4_000)
        with anyio.fail_after(60):
            while work._paced:
                await asyncio.sleep(0)

    async def test_the_bodies_of_requests_are_paced_and_small_ones_are_not(
        self, replica: Replica, waits: list[float]
    ) -> None:
        assert "result" in await replica.bob.call("until_exists", path="x")
        replies = await asyncio.gather(*replica.start_large(3))
        assert all("result" in reply for reply in replies)
        assert len(waits) == 2


@pytest.mark.parametrize(
    ("head", "size", "are_touched"),
    [
        ((b"content-length", b"200000"), 200_000, True),
        ((b"transfer-encoding", b"chunked"), 200_000, True),
        ((b"transfer-encoding", b"chunked"), 200, False),
        ((b"content-length", b"200"), 200, False),
        ((b"transfer-encoding", b"chunked"), 1_200_000, True),
    ],
)
async def test_a_large_body_comes_whole_however_it_is_sent(
    head: tuple[bytes, bytes], size: int, are_touched: bool
) -> None:
    """A body that is longer than the endpoint takes is passed on as it is: the endpoint refuses it."""
    parts = [b"x" * 50_000] * (size // 50_000) + [b"y" * (size % 50_000)]
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    left[-1] = {**left[-1], "more_body": False}
    seen: list[Any] = []

    async def receive() -> Any:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(is_large_request())
        while (message := await receive())["type"] == "http.request":
            seen.append((len(message["body"]), message["more_body"]))

    large = LargeBodies(app, ServerRuntime(), "/mcp", longest=1_000_000)
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": [(b"host", b"x"), head]}
    await asyncio.create_task(large(scope, receive, None))  # type: ignore[arg-type]  # nothing is sent
    assert seen[0] is are_touched
    assert sum(length for length, _ in seen[1:]) == size
    assert seen[-1][1] is False
    assert size > 1_000_000 or len(seen) == 2
