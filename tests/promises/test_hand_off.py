"""A host that gives every call up after a minute gets the result of a tool that takes three.

The tool, the server's hand-off and the host's limit are scaled down; `TASKMILL_TEST_LONG=1` takes the real figures.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.official_clients import Official
from tests.support.results import text_of

SERVER = Path(__file__).parents[1] / "clients" / "server.py"
LONG = bool(os.environ.get("TASKMILL_TEST_LONG"))
LIMIT, HAND_OFF, LONGEST = (60.0, 50.0, 55.0) if LONG else (4.0, 1.0, 3.9)
"""Seconds: when the host gives up, when the server hands off, and how long a call may then take."""
STEPS = 9
WORDS = json.dumps({"steps": STEPS, "pause": LIMIT / 3})  # three times the limit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server that hands off before the host gives up."""
    cli = CommandLine(tmp_path_factory.mktemp("taskmill"), {"TASKMILL_HANDOFF_AFTER": str(HAND_OFF)})
    with cli, cli.started("run", str(SERVER), "--port", "0", "--concurrency", "4") as command:
        yield command.url()


def test_a_host_with_a_hard_limit_follows_the_words_to_the_result(url: str, official: Official) -> None:
    with official.model(url, "count", WORDS, str(int(LIMIT * 1000))) as model:
        tools, *answers = model.finish()
    assert {"task_wait", "task_status", "task_cancel", "task_list"} <= set(tools["names"])
    first, *waits, last = answers
    assert not first.get("isError")
    assert first["tool"] == "count"
    assert {answer["tool"] for answer in [*waits, last]} == {"task_wait"}
    assert len(waits) >= 2, "one wait was enough: the tool was too short to show anything"
    assert not any(answer.get("isError") for answer in answers)
    assert text_of(last) == f"counted to {STEPS}"
    assert max(answer["seconds"] for answer in answers) < LONGEST


def test_a_host_that_resets_its_limit_on_progress_is_never_handed_off(url: str, official: Official) -> None:
    with official.typescript(url, "call", "count", WORDS, str(int(LIMIT * 1000))) as client:
        seen = client.finish()
    told = [saw["progress"] for saw in seen if saw["saw"] == "progress"]
    beats = [value for value in told if value % 1]  # between two steps, when the tool is silent for long
    assert [value for value in told if value not in beats] == list(range(1, STEPS + 1))
    assert text_of(seen[-1]) == f"counted to {STEPS}"
