"""A plain call of 2025-11-25 outlives the replica that holds its stream.

Two replicas behind one address, SIGKILL in the middle, unmodified official clients.

`WINDLASS_TEST_LONG=1` makes the tool run for a minute, beyond the TypeScript SDK's own limit for a silent call.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from clients.forwarder import Forwarder
from clients.official import Json, Official, Program, needed
from promises.deployment import Deployment

SERVER = Path(__file__).parents[1] / "clients" / "server.py"
LONG = bool(os.environ.get("WINDLASS_TEST_LONG"))
PAUSE = 0.5
STEPS = 120 if LONG else 24

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[[str, str], AbstractContextManager[Program]]
Seen = dict[str, list[Json] | AssertionError]


def clients_of(official: Official) -> dict[str, tuple[str | None, Start]]:
    """By name: the interpreter, None where it cannot be had, and how to start a plain call of `count`."""
    return {
        "typescript-1": (official.node, lambda url, words: official.typescript(url, "call", "count", words)),
        "python-1": (official.mcp1, lambda url, words: official.python1(url, "call", "count", words)),
        "python-2": ("here", lambda url, words: official.python2(url, "legacy", "count", words)),
    }


class Scene:
    """Two replicas, a worker, an address, and every client that can be had in the middle of its call."""

    def __init__(self, folder: Path, official: Official) -> None:
        self._stack = ExitStack()
        self.deployment = self._stack.enter_context(Deployment(folder, SERVER))
        self.ports = {name: int(self.deployment.replica(name).split(":")[2].split("/")[0]) for name in ("a", "b")}
        self.deployment.worker("worker", "--concurrency", "10")
        self.forwarder = self._stack.enter_context(Forwarder(*self.ports.values()))
        words = json.dumps({"steps": STEPS, "pause": PAUSE})
        url = f"http://127.0.0.1:{self.forwarder.port}/mcp"
        self.programs = {
            name: self._stack.enter_context(start(url, words))
            for name, (interpreter, start) in clients_of(official).items()
            if interpreter
        }

    def wait_for_step(self, step: int) -> None:
        """Until every client has been told of the step."""
        for program in self.programs.values():
            program.until(lambda saw: saw.get("progress") == step)

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
        """What each client saw, or what went wrong with it."""
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
        scene.wait_for_step(STEPS // 3)
        scene.kill("a")
        yield scene.finish()
    finally:
        scene.close()


@pytest.fixture(scope="module")
def thrice(tmp_path_factory: pytest.TempPathFactory, official: Official) -> Iterator[Seen]:
    """What each client saw while the replica with its call was killed, and then, twice, the one with its stream."""
    scene = Scene(tmp_path_factory.mktemp("thrice"), official)
    try:
        scene.wait_for_step(STEPS // 6)
        scene.kill("a")
        scene.wait_for_step(STEPS // 2)
        scene.restart("a")
        scene.kill("b")
        scene.wait_for_step(STEPS * 3 // 4)
        scene.restart("b")
        scene.kill("a")
        yield scene.finish()
    finally:
        scene.close()


def counted(seen: list[Json] | AssertionError) -> tuple[list[float], str]:
    """The steps that a client was told of, and its result."""
    if isinstance(seen, AssertionError):
        raise seen
    return [saw["progress"] for saw in seen if saw["saw"] == "progress"], seen[-1]["content"][0]["text"]


@pytest.mark.parametrize("client", ["typescript-1", "python-1", "python-2"])
def test_every_message_comes_once_and_the_result(
    client: str, official: Official, request: pytest.FixtureRequest
) -> None:
    needed(clients_of(official)[client][0], client)
    seen = request.getfixturevalue("once")[client]
    assert counted(seen) == (list(range(1, STEPS + 1)), f"counted to {STEPS}")


@pytest.mark.parametrize("client", ["typescript-1", "python-1", "python-2"])
def test_the_resumed_stream_outlives_two_more_replicas(
    client: str, official: Official, request: pytest.FixtureRequest
) -> None:
    """The Python SDKs ask again for what they have when a resumed stream breaks off, so each kill may repeat what came
    within one `retry`; never more, and nothing is missing.
    """
    needed(clients_of(official)[client][0], client)
    told, result = counted(request.getfixturevalue("thrice")[client])
    assert (list(dict.fromkeys(told)), result) == (list(range(1, STEPS + 1)), f"counted to {STEPS}")
    at_once = 3  # steps within a second and a half
    assert len(told) - STEPS <= (0 if client == "typescript-1" else 2 * at_once)
