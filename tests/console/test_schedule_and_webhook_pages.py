"""The console's pages of schedules, of webhooks that are not delivered, and of what a task was called with."""

import logging
from typing import Any

import httpx2
import pytest

from taskmill.engine.principal import SCHEDULE, PrincipalLimits
from taskmill.engine.record import Firing
from taskmill.server.settings import ServerSettings
from taskmill.store.audit.records import Actor, ActorFacts, ActorKind, AuditRecord, acting_as
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.schedules import firing_id
from tests.support.console_visitor import ACTOR, HOSTILE, READER, SHOWN, give_up_webhook, log_in, visitor
from tests.support.store_fixture import OWNER, StoreFixture
from tests.support.webhook_receiver import ALL_ENDS

HOURLY = '{"every_ms":3600000,"missed":"run_once"}'
MORNINGS = '{"cron":"0 7 * * MON-FRI","missed":"skip","timezone":"Europe/Berlin"}'


class Recorder(Actor):
    """Keeps what is recorded of an operator."""

    def __init__(self) -> None:
        self.entries: list[AuditRecord] = []

    def facts(self) -> ActorFacts:
        return ActorFacts(ActorKind.OPERATOR, "ada")

    def leave(self, entry: AuditRecord) -> None:
        self.entries.append(entry)


async def given_up(stores: StoreFixture, why: str, **changes: Any) -> str:
    """A task whose webhook was given up; its id."""
    task = await stores.start(**{"webhook": ALL_ENDS, **changes})
    await give_up_webhook(stores, task, why)
    return task.id


async def test_schedules_are_shown_in_words_with_the_last_task_the_next_firing_and_what_was_missed(
    page: httpx2.AsyncClient, stores: StoreFixture
) -> None:
    await stores.store.scheduling.begin("shop/hourly", HOURLY)
    await stores.store.scheduling.begin(f"shop/{HOSTILE}", MORNINGS)
    at_ms = await stores.now_ms() - 7_200_000
    task_id = firing_id("shop/hourly", at_ms, "home")
    new = {"principal": SCHEDULE, "tool": "hourly", "limits": PrincipalLimits(), "queue": "shop/default"}
    await stores.redis.hset(stores.keys.schedules, "shop/hourly", f"{at_ms - 1} - {HOURLY}")  # type: ignore[misc]
    await stores.store.fire(stores.task(id=task_id, firing=Firing("shop/hourly", at_ms, HOURLY), **new))
    await stores.store.pause(Pause(Pausable.QUEUE, "shop", "default"))

    shown = (await page.get("/console/schedules")).text

    mornings, hourly = shown.split("<tr>")[2:4]
    for words in (
        "every 1 h",
        f'/tasks/{task_id}"',
        "pending",
        "one run makes up",
        ">missed</span>: <time",
        "its queue",
    ):
        assert words in hourly, words
    for words in (SHOWN, "At 07:00 on Monday through Friday", "Europe/Berlin", "left out", "no worker"):
        assert words in mornings, words
    assert ">missed</span>" not in mornings, "it has only begun"
    assert not set("\x1b\u202e") & set(shown)


async def test_webhooks_are_shown_by_state_and_retried_after_a_question_by_who_may_act(
    page: httpx2.AsyncClient, stores: StoreFixture, settings: ServerSettings
) -> None:
    lost = await given_up(stores, f"hooks.example.com answered 500 {HOSTILE}", tool="bill")
    again = await given_up(stores, "hooks.example.com answered 410", tool="sell")
    waiting = (await stores.start(webhook=ALL_ENDS, tool="send")).id
    await stores.store.cancel(waiting, OWNER)

    shown = (await page.get("/console/webhooks")).text
    assert [one[:10] in shown for one in (lost, again, waiting)] == [True] * 3
    assert f"answered 500 {SHOWN}" in shown
    only = (await page.get("/console/webhooks?state=waiting")).text
    assert [one[:10] in only for one in (lost, waiting)] == [False, True]
    assert (await page.get("/console/webhooks?state=nonsense")).status_code == 400

    asked = (await page.get(f"/console/webhooks/{lost}/retry")).text
    assert SHOWN in asked
    assert (await stores.store.delivery(lost) or pytest.fail("it is gone")).is_given_up, "a look does nothing"
    async with visitor(stores, settings) as reader:
        await log_in(reader, READER)
        assert "Retry" not in (await reader.get("/console/webhooks")).text
        assert (await reader.post(f"/console/webhooks/{lost}/retry")).status_code == 403
    done = await page.post(f"/console/webhooks/{lost}/retry")
    assert "Tried again now" in (await page.get(done.headers["location"])).text
    assert not (await stores.store.delivery(lost) or pytest.fail("it is gone")).is_given_up

    assert "Retry 1 webhook<" in (await page.get("/console/webhooks/retry")).text
    await page.post("/console/webhooks/retry")
    assert not (await stores.store.delivery(again) or pytest.fail("it is gone")).is_given_up
    assert "nothing to do" in (await page.get("/console/webhooks/retry")).text
    assert (await page.post("/console/webhooks/unknown/retry")).status_code == 404


async def test_arguments_are_opened_only_where_a_setting_permits_it_and_leave_a_record(
    stores: StoreFixture, settings: ServerSettings, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"caller": {"token": "not-shown"}, "arguments": {"password": f"hunter2 {HOSTILE}", "long": "x" * 300_000}}
    task_id = await stores.create(arguments=given)
    recorder = Recorder()
    caplog.set_level(logging.DEBUG)
    with acting_as(recorder):
        async with visitor(stores, settings) as client:
            await log_in(client, READER)
            refused = await client.get(f"/console/tasks/{task_id}/arguments")
            assert ("TASKMILL_CONSOLE_ARGUMENTS=1" in refused.text, "hunter2" in refused.text) == (True, False)
        async with visitor(stores, settings, shows_arguments=True) as client:
            await log_in(client, ACTOR)
            assert "hunter2" not in (await client.get(f"/console/tasks/{task_id}")).text
            opened = (await client.get(f"/console/tasks/{task_id}/arguments")).text
            await stores.finish(await stores.take(task_id))
            ended = (await client.get(f"/console/tasks/{task_id}/arguments")).text
    assert "hunter2 &lt;script&gt;alert(1)" in opened
    assert not set("\x1b\u202e") & set(opened)
    assert ("characters more" in opened, "not-shown" in opened) == (True, False)
    assert len(opened) < 210_000
    assert "not kept any more" in ended
    records = [entry for entry in recorder.entries if entry.action == "task.arguments_read"]
    assert [(entry.task, entry.tool) for entry in records] == [(task_id, "count")] * 2
    assert "hunter2" not in caplog.text + "".join(capsys.readouterr())
