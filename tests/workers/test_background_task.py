"""A service of a worker goes on after an error, whatever it was: a worker without it would look healthy."""

import asyncio

import pytest
from structlog.testing import capture_logs

from taskmill.engine.errors import OperatorError
from taskmill.workers.services import background_task
from taskmill.workers.services.background_task import BackgroundTask


class Service(BackgroundTask):
    """Breaks as it is told, and then works."""

    name = "taskmill.tested"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.works = asyncio.Event()

    async def _run(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.works.set()
        await asyncio.Event().wait()


async def test_a_service_that_breaks_starts_again_later_each_time_and_stops_when_it_is_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_task, "_SHORTEST_REST", 0.01)
    monkeypatch.setattr(background_task, "_LONGEST_REST", 0.03)
    monkeypatch.setattr(background_task, "monotonic", lambda: 0.0)
    service = Service(OperatorError("refused"), RuntimeError("a fault of ours"), OSError(), OSError())
    with capture_logs() as logs:
        service.start()
        async with asyncio.timeout(20):
            await service.works.wait()
        await service.stop()
    assert {(one["event"], one["service"]) for one in logs} == {("service.failed", "taskmill.tested")}
    assert [one["again_in"] for one in logs] == [0.01, 0.02, 0.03, 0.03]
    assert (logs[0]["why"], type(logs[1]["exc_info"])) == ("refused", RuntimeError)


async def test_a_service_can_be_stopped_before_it_was_started_and_while_it_rests() -> None:
    await Service().stop()
    resting = Service(RuntimeError("a fault of ours"))
    resting.start()
    for _ in range(10):
        await asyncio.sleep(0)
    await resting.stop()
    assert not resting.works.is_set()
