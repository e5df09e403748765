"""The console in a real Chromium, on `taskmill console` as a process: each page, each action with its question."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import Progress
from taskmill.engine.status import Status
from taskmill.engine.timing.schedule import Schedule
from taskmill.server.settings import ServerSettings
from taskmill.store.claims.claims import Question
from taskmill.store.tasks.tasks import OPERATOR
from tests.hosts.browser.browsers import chromium
from tests.hosts.installation import CannotInstall, install
from tests.support.console_visitor import HOSTILE, give_up_webhook
from tests.support.processes import taskmill
from tests.support.store_fixture import StoreFixture
from tests.support.webhook_receiver import ALL_ENDS

PROGRAM = Path(__file__).parent / "console_program.py"
FORM = {"type": "object", "properties": {"sure": {"type": "boolean", "title": "Sure"}}}
ASKED = {"method": "elicitation/create", "params": {"message": "Delete all?", "requestedSchema": FORM}}


@pytest.fixture
def settings(redis_url: str) -> ServerSettings:
    return ServerSettings(redis_url=redis_url)


async def fill(stores: StoreFixture) -> tuple[str, str]:
    """200 tasks of five tools, a schedule, a lost webhook; the ids of one that runs and of one that asks."""
    await stores.store.scheduling.begin("/reports", Schedule("0 7 * * MON-FRI", "Europe/Berlin").as_json())
    await give_up_webhook(stores, await stores.start(tool="count-1", webhook=ALL_ENDS), f"hooks answered 500 {HOSTILE}")
    for number in range(200 - 12 - 5 - 2 - 1):
        await stores.finish(await stores.start(tool=f"count-{number % 2}"))
    for _ in range(12):
        await stores.finish(await stores.start(tool="broken"), Failed(Fault.TIMEOUT, "too long"))
    given = {"arguments": {"shelf": "the upper one"}}
    running, asking = await stores.start(tool="runs", arguments=given), await stores.start(tool="asks")
    await stores.ann.ask(asking.id, asking.fence, [Question("input-1", "digest", ASKED)])
    for _ in range(5):
        await stores.create(tool="queued")
    return running.id, asking.id


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_operator_uses_every_page_and_action_in_a_browser(
    stores: StoreFixture, redis_url: str, tmp_path: Path
) -> None:
    """A browser is no package of ours: where there is none, this is skipped, and the end of the run says so."""
    try:
        browser, python = chromium(), install("playwright")[0]
    except CannotInstall as exc:
        pytest.skip(f"NO PAGE WAS OPENED IN A BROWSER: {exc}")
    running, asking = await fill(stores)
    words, env = ["console", "--redis-url", redis_url, "--port", "0"], {**os.environ, "TASKMILL_CONSOLE_ARGUMENTS": "1"}
    console = await asyncio.create_subprocess_exec(
        taskmill(), *words, cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE
    )
    assert console.stdout is not None
    try:
        line = (await console.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+/console/login#\S+", line)
        assert found, line
        words = [str(PROGRAM), browser, str(tmp_path), found[0], running, asking]
        driver = await asyncio.create_subprocess_exec(
            python, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert driver.stdout is not None
        assert driver.stderr is not None
        steps = []
        async for step in driver.stdout:
            steps.append(json.loads(step)["seen"])
            if steps[-1] == "task":
                fence = (await stores.store.read(running, OPERATOR)).record.fence
                await stores.report((running, fence, Progress(1, 2, "half of the jars")))
        assert await driver.wait() == 0, (await driver.stderr.read()).decode()[-3000:]
    finally:
        console.terminate()
        await console.wait()
    assert steps == ["overview", "pages", "task", "progress", "actions", "login"]
    assert (await stores.store.read(running, OPERATOR)).record.status is Status.CANCELLED
    assert (await stores.store.read(asking, OPERATOR)).record.questions == 0
    assert await stores.store.pauses() == []
    (webhook,) = await stores.store.undelivered(None, limit=10)
    assert not webhook.is_given_up
    assert console.returncode == 0
