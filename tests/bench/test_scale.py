"""What docs/scale.md stands on: the simulation, the program that measures for it, and the manifest for Kubernetes."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from anyio import fail_after, sleep
from redis.asyncio import Redis
from typer.main import get_command

from bench.simulation import Costs, Deployment, predict
from taskmill.cli.commands import app
from taskmill.server.settings import ServerSettings
from tests.support.replica import Rpc, client_of, working
from tests.support.sample_server import make_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text()
MANIFEST = ROOT / "examples" / "kubernetes" / "workers.yaml"
COSTS = Costs(worker=200, run=100, create=50, poll=10)


@pytest.mark.parametrize(
    ("deployment", "rate"),
    [
        (Deployment(1, cores=0), 5000),  # the worker
        (Deployment(4, cores=0), 10_000),  # Redis
        (Deployment(4, cores=0, shards=2), 20_000),
        (Deployment(1, cores=1), 3333),  # the core
        (Deployment(4, cores=2), 6667),
        (Deployment(2, concurrency=10, cores=0, tool_ms=100), 199),  # the slots
        (Deployment(1, concurrency=1, cores=0), 3333),  # one slot: nothing is done at the same time
    ],
)
def test_the_scarcest_thing_sets_the_rate(deployment: Deployment, rate: float) -> None:
    assert predict(COSTS, deployment) == pytest.approx(rate, rel=0.02)


def test_more_of_anything_makes_nothing_slower() -> None:
    rates = [predict(COSTS, Deployment(workers, cores=4, tool_ms=20)) for workers in (1, 2, 4, 8, 16)]
    assert rates == sorted(rates)
    shards = [predict(COSTS, Deployment(3, cores=0, shards=shards)) for shards in (1, 2, 3)]
    assert shards == sorted(shards)


def test_what_one_redis_holds_falls_with_every_poll() -> None:
    assert COSTS.most() == pytest.approx(6667, rel=0.001)
    assert COSTS.most(polls=15) == pytest.approx(3333, rel=0.001)


def test_a_rate_is_predicted_from_the_command_line() -> None:
    words = ("--predict", "--workers", "4", "--worker-us", "200", "--run-us", "100", "--create-us", "50")
    done = subprocess.run([ROOT / "scripts" / "scale", *words], capture_output=True, text=True, timeout=50, check=True)
    assert [int(figure) for figure in re.findall(r"^([\d,]+)", done.stdout.replace(",", ""), re.MULTILINE)] == [
        pytest.approx(10_000, rel=0.02),
        6667,
    ]


def test_a_small_run_measures_every_cost(tmp_path: Path) -> None:
    """With TASKMILL_TEST_LONG=1 it also holds a prediction against a rate."""
    told = tmp_path / "told.json"
    points = int(os.environ.get("TASKMILL_TEST_LONG", "0"))
    words = ("--tasks", "200", "--rounds", "1", "--points", str(points), "--json", told)
    done = subprocess.run([ROOT / "scripts" / "scale", *words], capture_output=True, text=True, timeout=110, check=True)
    found: dict[str, Any] = json.loads(told.read_text())
    assert found["costs_us"].keys() == {"worker", "run", "create", "poll"}
    assert f"A worker: {found['costs_us']['worker']:.0f} us a task." in done.stdout
    assert 2 < found["load"]["create_commands"] < 30, "less where many are created by one call"
    assert 500 < found["load"]["ended_bytes"] < 20_000
    assert len(found["points"]) == points
    for point in found["points"]:
        assert point["measured"] > 0
        assert f"| no-op, a worker | {point['measured']:,.0f}/s | {point['predicted']:,.0f}/s |" in done.stdout


def test_the_page_shows_the_points_that_are_measured() -> None:
    rows = re.findall(r"^\| (.+?) \| ([\d,]+)/s \| ([\d,]+)/s \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for label, measured, predicted, ratio in rows:
        quotient = int(predicted.replace(",", "")) / int(measured.replace(",", ""))
        assert quotient == pytest.approx(float(ratio), abs=0.01), label


async def metrics(rpc: Rpc) -> str:
    return (await rpc.http.get(rpc.url.removesuffix("/mcp") + "/metrics")).text


class TestManifest:
    """`examples/kubernetes/workers.yaml`, as far as it can be held without a cluster."""

    WORKERS, *_, SCALED = yaml.safe_load_all(MANIFEST.read_text())

    async def test_its_query_names_metrics_that_a_replica_tells(self, redis: Redis, redis_url: str) -> None:
        settings = ServerSettings(redis_url=redis_url)
        async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
            query = self.trigger()["query"]
            selectors = re.findall(r"taskmill_\w+\{[^}]*\}", query)
            assert len(selectors) == query.count("taskmill_") == 2
            with fail_after(30):  # a worker says so in its first moments
                while True:
                    told = await metrics(rpc)
                    if all(f"\n{selector} " in told for selector in selectors):
                        break
                    await sleep(0.05)

    def test_it_scales_the_deployment_it_brings_and_asks_for_no_more_than_the_slots(self) -> None:
        assert self.SCALED["spec"]["scaleTargetRef"]["name"] == self.WORKERS["metadata"]["name"]
        assert 0 < int(self.trigger()["threshold"]) <= int(self.option("--concurrency"))
        assert f'queue="{self.option("--queue")}"' in self.trigger()["query"]

    def test_its_command_is_one_and_has_time_to_leave(self) -> None:
        program, command, file, *words = self.container()["command"]
        assert (program, file) == ("taskmill", "server.py")
        known = {option for one in get_command(app).commands[command].params for option in one.opts}  # type: ignore[attr-defined]
        assert {word for word in words if word.startswith("--")} <= known
        assert int(self.option("--grace")) < self.WORKERS["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert self.container()["env"][0]["name"] == "TASKMILL_REDIS_URL"

    def trigger(self) -> dict[str, str]:
        (trigger,) = self.SCALED["spec"]["triggers"]
        assert trigger["type"] == "prometheus"
        found: dict[str, str] = trigger["metadata"]
        assert {"serverAddress", "query", "threshold"} <= found.keys()
        assert all(isinstance(value, str) for value in found.values()), "KEDA takes text"
        return found

    def container(self) -> dict[str, Any]:
        (container,) = self.WORKERS["spec"]["template"]["spec"]["containers"]
        found: dict[str, Any] = container
        return found

    def option(self, name: str) -> str:
        words = self.container()["command"]
        return str(words[words.index(name) + 1])
