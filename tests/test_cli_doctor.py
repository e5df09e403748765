"""`windlass doctor`: what it looks at, and when it calls something unfit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import SERVER, Household, eventually
from redis_server import PrivateRedis


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with Household(tmp_path) as household:
        yield household


def findings(house: Household, *words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    done = house.run("doctor", "--json", *words, **environment)
    assert (done.returncode, done.stderr) == (code, "")
    # A tool may have two findings; the later is the graver.
    return {finding.pop("name"): finding for finding in json.loads(done.stdout)}


def test_a_sound_installation_is_told_about_in_full(house: Household) -> None:
    found = findings(house, "server.py")
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert {"versions", "file", "tool dig", "settings", "redis-server", "redis", "redis eviction"} <= found.keys()
    assert found["tool dig"]["detail"] == "optional, no time limit, 0 retries, result kept 24 h, queue default"
    assert house.processes() == {}


def test_a_person_gets_a_table(house: Household) -> None:
    done = house.run("doctor")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()][:2] == ["check", "versions"]


def test_a_redis_that_evicts_is_unfit_and_says_what_to_change(house: Household) -> None:
    with PrivateRedis(maxmemory_policy="allkeys-lru") as redis:
        found = findings(house, "--redis-url", redis.url, code=1)
    assert found["redis eviction"]["level"] == "unfit"
    assert "noeviction" in found["redis eviction"]["remedy"]
    assert found["redis persistence"]["level"] == "warning"
    assert "redis-server" not in found, "no program is needed for a Redis of one's own"


def test_a_redis_without_workers_is_a_warning(house: Household, redis_url: str) -> None:
    found = findings(house, "--redis-url", redis_url, WINDLASS_PREFIX="nobody")
    assert found["workers"] == {
        "level": "warning",
        "detail": "none is alive, so tasks wait",
        "remedy": "start one: windlass worker FILE",
    }


def test_live_workers_are_listed_and_tools_that_none_of_them_has(house: Household) -> None:
    other = house.write("other.py", SERVER.replace("def dig", "def bore"))
    with house.started("worker", "server.py") as worker:
        eventually(lambda: "worker.started" in worker.log.read_text())
        found = eventually(lambda: one if "workers" not in (one := findings(house, other.name)) else None)
    (name,) = [name for name in found if name.startswith("worker ")]
    assert found[name]["detail"] == "queue default, 0 of 10 running, 0 settled"
    warned = [name for name, finding in found.items() if finding["level"] == "warning"]
    assert warned == ["tool bore"]


def test_an_unreachable_redis_is_unfit_and_its_password_stays_secret(house: Household) -> None:
    found = findings(house, code=1, WINDLASS_REDIS_URL="redis://:hush@127.0.0.1:1")
    assert found["redis"]["level"] == "unfit"
    assert "hush" not in json.dumps(found)


def test_a_file_that_cannot_be_loaded_is_unfit_and_the_rest_is_still_checked(house: Household) -> None:
    house.write("broken.py", "1 / 0\n")
    found = findings(house, "broken.py", code=1)
    assert found["file"] == {
        "level": "unfit",
        "detail": "ZeroDivisionError: division by zero",
        "remedy": "correct the file",
    }
    assert found["redis"]["level"] == "ok"


def test_settings_that_cannot_work_are_unfit(house: Household) -> None:
    found = findings(house, code=1, WINDLASS_LEASE="soon")
    assert "WINDLASS_LEASE" in found["settings"]["detail"]
