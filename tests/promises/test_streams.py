"""A plain call of 2025-11-25 outlives the replica that holds its stream.

Two replicas behind one address, SIGKILL in the middle, unmodified official clients.

`TASKMILL_TEST_LONG=1` makes the tool run for more than a minute, beyond the TypeScript SDK's limit for a silent call.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.promises.deployment import Deployment
from tests.support.official_clients import Json, Official, Program, needed
from tests.support.tcp_forwarder import Forwarder

SERVER = Path(__file__).parents[1] / "clients" / "server.py"
LASTS = 65.0 if os.environ.get("TASKMILL_TEST_LONG") else 0.0
"""Seconds that the tool runs at least."""
PAUSE = 0.5
SURELY_NEW = 3
"""A message that is so many steps further was sent after now: the one before may be on its way."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[[str, str], AbstractContextManager[Program]]
Seen = dict[str, list[Json] | AssertionError]


def clients_of(official: Official) -> dict[str, tuple[str | None, Start]]:
    """By name: the interpreter, None where it cannot be had, and how to start a plain call of `walk`."""
    return {
        "typescript-1": (official.node, lambda url, words: official.typescript(url, "call", "walk", words)),
        "python-1": (official.mcp1, lambda url, words: official.python1(url, "call", "walk", words)),
        "python-2": ("here", lambda url, words: official.python2(url, "legacy", "walk", words)),
    }


class Scene:
    """Two replicas, a worker, an address, and every client that can be had in the middle of its call."""

    def __init__(self, folder: Path, official: Official) -> None:
        self._stack = ExitStack()
        self.deployment = self._stack.enter_context(Deployment(folder, SERVER))
        self.ports = {name: int(self.deployment.replica(name).split(":")[2].split("/")[0]) for name in ("a", "b")}
        self.deployment.worker("worker", "--concurrency", "10")
        self.forwarder = self._stack.enter_context(Forwarder(*self.ports.values()))
        self._gate = folder / "gate"
        words = json.dumps({"gate": str(self._gate), "pause": PAUSE})
        url = f"http://127.0.0.1:{self.forwarder.port}/mcp"
        self.programs = {
            name: self._stack.enter_context(start(url, words))
            for name, (interpreter, start) in clients_of(official).items()
            if interpreter
        }
        self._start = time.monotonic()

    def go_on(self) -> None:
        """Until every client has been told of steps that came after now."""
        known = {name: _last_step(program.catch_up()) for name, program in self.programs.items()}
        for name, program in self.programs.items():
            enough = known[name] + SURELY_NEW
            while _last_step(program.seen) < enough:
                assert program.next(), f"{name} ended before step {enough}: {program.seen[-1:]}\n{program.errors}"

    def kill(self, name: str) -> None:
        """SIGKILL for the replica that holds every stream; from then on the other one comes first."""
        assert set(self.forwarder.connections[-len(self.programs) :]) == {self.ports[name]}
        self.forwarder.ports = tuple(port for port in self.ports.values() if port != self.ports[name])
        self.deployment.processes[name].kill()
        self.deployment.processes[name].wait()

    def restart(self, name: str) -> None:
        """Start a killed replica again, as the one to turn to when the other one dies."""
        self.deployment.replica(name, self.ports[name])
        self.forwarder.ports += (self.ports[name],)

    def finish(self) -> Seen:
        """Let the tool end; what each client saw, or what went wrong with it."""
        while time.monotonic() - self._start < LASTS:
            self.go_on()
        self._gate.touch()
        seen: Seen = {}
        for name, program in self.programs.items():
            try:
                seen[name] = program.finish()
            except AssertionError as error:
                seen[name] = error
        return seen

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, official: Official) -> Iterator[Seen]:
    """What each client saw while the replica with its call was killed."""
    scene = Scene(tmp_path_factory.mktemp("once"), official)
    try:
        scene.go_on()
        scene.kill("a")
        scene.go_on()
        yield scene.finish()
    finally:
        scene.close()


@pytest.fixture(scope="module")
def thrice(tmp_path_factory: pytest.TempPathFactory, official: Official) -> Iterator[Seen]:
    """What each client saw while the replica with its call was killed, and then, twice, the one with its stream."""
    scene = Scene(tmp_path_factory.mktemp("thrice"), official)
    try:
        scene.go_on()
        scene.kill("a")
        scene.go_on()
        scene.restart("a")
        scene.kill("b")
        scene.go_on()
        scene.restart("b")
        scene.kill("a")
        scene.go_on()
        yield scene.finish()
    finally:
        scene.close()


def _last_step(seen: list[Json]) -> float:
    return max([saw["progress"] for saw in seen if saw["saw"] == "progress"], default=0)


def walked(seen: list[Json] | AssertionError) -> tuple[list[float], int]:
    """The steps that a client was told of, and how many there were."""
    if isinstance(seen, AssertionError):
        raise seen
    walked, count, steps = seen[-1]["content"][0]["text"].split()
    assert (walked, steps) == ("walked", "steps")
    return [saw["progress"] for saw in seen if saw["saw"] == "progress"], int(count)


@pytest.mark.parametrize("client", ["typescript-1", "python-1", "python-2"])
def test_every_message_comes_once_and_the_result(
    client: str, official: Official, request: pytest.FixtureRequest
) -> None:
    needed(clients_of(official)[client][0], client)
    told, steps = walked(request.getfixturevalue("once")[client])
    assert told == list(range(1, steps + 1))


@pytest.mark.parametrize("client", ["typescript-1", "python-1", "python-2"])
def test_the_resumed_stream_outlives_two_more_replicas(
    client: str, official: Official, request: pytest.FixtureRequest
) -> None:
    """The Python SDKs ask again for what they have when a resumed stream breaks off, so each kill may repeat what came
    within one `retry`; never more, and nothing is missing.
    """
    needed(clients_of(official)[client][0], client)
    told, steps = walked(request.getfixturevalue("thrice")[client])
    assert list(dict.fromkeys(told)) == list(range(1, steps + 1))
    at_once = 3  # steps within a second and a half
    assert len(told) - steps <= (0 if client == "typescript-1" else 2 * at_once)
