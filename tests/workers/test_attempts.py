"""An attempt between its claim and the start of its tool."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.store.claims.journal import JournalStore
from taskmill.store.settings import StoreSettings
from taskmill.workers.attempts.active import ActiveTasks
from taskmill.workers.attempts.attempt import Attempt
from taskmill.workers.attempts.log_messages import LogWriter
from taskmill.workers.attempts.progress import ProgressWriter
from taskmill.workers.attempts.slots import Slots
from tests.support.store_fixture import DONE, OWNER, StoreFixture


class NotingToolbox:
    """One tool, which notes that it ran."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    def policy(self, _tool: str) -> TaskConfig:
        return TaskConfig()

    async def run(self, _tool: str, _payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        self.ran.append(context.attempt)
        return DONE


@pytest.fixture
def settings(redis_url: str) -> StoreSettings:
    return StoreSettings(redis_url=redis_url, lease=60)


async def _nothing(_reports: Any) -> None:
    """Writes nothing."""


async def test_a_later_attempt_at_a_task_that_was_cancelled_before_it_began_runs_no_tool(stores: StoreFixture) -> None:
    """Its journal has gone with the task: a tool that ran now would take every step again."""
    first = await stores.start()
    await stores.lapse(first.id)
    second = await stores.take(first.id, stores.bob)
    toolbox, slots = NotingToolbox(), Slots(1, lambda: None)
    slots.take()
    attempt = Attempt(
        second,
        toolbox=cast(Toolbox, toolbox),
        store=stores.bob,
        journals=JournalStore(stores.redis, stores.settings, stores.bob.scripts),
        active=ActiveTasks(15),
        progress=ProgressWriter(_nothing),
        logs=LogWriter(_nothing),
        slots=slots,
    )
    await stores.store.cancel(second.id, OWNER)

    ending = await attempt.run()

    assert (ending, toolbox.ran, slots.free) == (None, [], 1)
