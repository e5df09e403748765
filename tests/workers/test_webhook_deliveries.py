"""How webhooks are sent: when they are tried again, which address they go to, what stands in them, who signs them."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned
from taskmill.engine.policy import TaskConfig
from taskmill.store.scripts import Scripts
from taskmill.store.webhooks.deliveries import Delivery, DeliveryStore
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.webhooks import receivers
from taskmill.workers.webhooks.deliverer import WebhookDeliverer, webhook_services
from taskmill.workers.webhooks.message import body_of
from taskmill.workers.webhooks.requests import Answer, WebhookClient
from taskmill.workers.webhooks.secrets import WebhookSecrets
from tests.support.redis_server import free_port
from tests.support.store_fixture import DONE, StoreFixture
from tests.support.waiting import eventually_async
from tests.support.webhook_receiver import ALL_ENDS, SECRET, Receiver, receiver

HOURS = 3600
OTHER_SECRET = "whsec_" + base64.b64encode(b"one that is to take its place...").decode()


class Deliveries:
    """What is to be delivered on one Redis, and a worker's service that does it."""

    def __init__(self, redis: Redis, redis_url: str, **given: Any) -> None:
        given = {"webhook_secret": SECRET, "webhook_allow_private": True, "poll": 0.02, **given}
        self.settings = WorkerSettings(redis_url=redis_url, **given)
        self.stores = StoreFixture(redis, self.settings)
        self.store = DeliveryStore(redis, self.settings, Scripts(self.stores.keys), self.stores.keys)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[WebhookDeliverer]:
        """The service, while it runs."""
        deliverer = WebhookDeliverer(self.store, self.settings, lambda _: TaskConfig())
        deliverer.start()
        try:
            yield deliverer
        finally:
            await deliverer.stop()

    async def ended(self, outcome: Outcome = DONE, *, tool: str = "count") -> str:
        """A task that has ended; its id."""
        task = await self.stores.start(webhook=ALL_ENDS, tool=tool)
        await self.stores.finish(task, outcome)
        return task.id

    async def make_due(self, task_id: str) -> None:
        await self.stores.redis.zadd(self.stores.keys.deliveries(""), {task_id: 1})

    async def undelivered(self) -> list[Delivery]:
        return await self.store.undelivered(None, limit=100)

    async def tried(self, times: int) -> Delivery:
        """The only webhook, once it has failed so often."""
        (found,) = await eventually_async(self.undelivered, lambda found: [one for one in found if one.tries == times])
        return found

    async def settled(self) -> None:
        await eventually_async(self.undelivered, lambda found: not found)


def wait_of(delivery: Delivery) -> float:
    """Seconds between its last try and the next."""
    assert delivery.next_ms is not None
    assert delivery.tried_ms is not None
    return (delivery.next_ms - delivery.tried_ms) / 1000


async def test_the_wait_before_a_retry_grows_threefold_up_to_an_hour(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url, webhook_backoff=5)
    for _ in range(3):
        hook.will_answer(500)
    task_id = await deliveries.ended()
    async with deliveries.sending():
        assert 4 <= wait_of(await deliveries.tried(1)) <= 6
        await deliveries.make_due(task_id)
        assert 12 <= wait_of(await deliveries.tried(2)) <= 18
        await redis.hset(deliveries.stores.keys.webhook(task_id), "d_tries", 5000)  # type: ignore[misc]
        await deliveries.make_due(task_id)
        assert 0.8 * HOURS <= wait_of(await deliveries.tried(5001)) <= 1.2 * HOURS


async def test_a_receiver_may_ask_for_a_later_try_by_a_number_or_a_date_and_for_a_day_at_most(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url, webhook_backoff=5)
    hook.will_answer(503, **{"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=2))})
    hook.will_answer(429, **{"retry-after": str(7 * 24 * HOURS)})
    hook.will_answer(429, **{"retry-after": "1"})
    task_id = await deliveries.ended()
    async with deliveries.sending():
        assert 1.9 * HOURS < wait_of(await deliveries.tried(1)) <= 2 * HOURS
        await deliveries.make_due(task_id)
        assert wait_of(await deliveries.tried(2)) == 24 * HOURS
        await deliveries.make_due(task_id)
        assert wait_of(await deliveries.tried(3)) > 30, "and no sooner than it would have been tried"


async def test_it_is_given_up_when_the_next_try_would_come_after_its_time_and_a_retry_gives_it_the_whole_time_again(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url, webhook_backoff=300, webhook_give_up=1000)
    for _ in range(3):
        hook.will_answer(500)
    task_id = await deliveries.ended()
    async with deliveries.sending():
        assert not (await deliveries.tried(1)).is_given_up
        await redis.hset(deliveries.stores.keys.webhook(task_id), "ended_ms", "1")  # type: ignore[misc]
        await deliveries.make_due(task_id)
        assert (await deliveries.tried(2)).is_given_up
        assert await deliveries.store.retry(task_id)
        assert not (await deliveries.tried(1)).is_given_up
    await redis.flushall()
    hasty = Deliveries(redis, redis_url, webhook_url=hook.url, webhook_backoff=3000, webhook_give_up=1000)
    hook.will_answer(500)
    await hasty.ended()
    async with hasty.sending():
        assert (await hasty.tried(1)).is_given_up


async def test_a_receiver_that_does_not_answer_is_asked_once_for_all_that_it_is_to_get(
    redis: Redis, redis_url: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    deliveries = Deliveries(redis, redis_url, webhook_url=url, webhook_backoff=0.01)
    first = await deliveries.ended()
    async with deliveries.sending():
        await deliveries.tried(1)
        second = await deliveries.ended()
        found = await eventually_async(
            deliveries.undelivered, lambda found: len([one for one in found if one.error]) == 2
        )
        waits = {one.task_id: one for one in found}
        assert (waits[second].tries, waits[second].error) == (0, "127.0.0.1: connection refused")
        assert waits[first].tries >= 1
        async with receiver(port=port) as hook:
            await deliveries.settled()
            assert {one.id for one in hook.received} == {f"ended_{first}", f"ended_{second}"}
            hook.received.clear()
            for _ in range(3):
                await deliveries.ended()
            await deliveries.settled()
            assert len(hook.received) == 3, "once it answers nothing waits"


async def test_what_waits_for_a_receiver_that_does_not_answer_is_given_up_when_its_time_is_over(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url)
    late = await deliveries.ended()
    await redis.hset(deliveries.stores.keys.webhook(late), "ended_ms", "1")  # type: ignore[misc]
    async with deliveries.sending() as deliverer:
        for _ in range(9):
            deliverer._receivers.note(hook.url, Answer(None, "it does not answer"))
        given_up = await deliveries.tried(1)
    assert (given_up.is_given_up, given_up.error, hook.received) == (True, "it does not answer", [])


async def test_a_worker_has_what_it_sends_for_longer_than_the_receiver_may_take(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url, webhook_timeout=100, lease=5)
    hook.opened.clear()
    before = await deliveries.stores.now_ms()
    task_id = await deliveries.ended()
    async with deliveries.sending():
        await hook.got()
        due = await redis.zscore(deliveries.stores.keys.deliveries(""), task_id)
        assert due is not None
        assert due >= before + 105_000
        hook.opened.set()
        await deliveries.settled()


async def test_a_worker_sends_no_more_than_sixteen_at_a_time(redis: Redis, redis_url: str, hook: Receiver) -> None:
    deliveries = Deliveries(redis, redis_url)
    async with receiver() as other:
        webhooks = {"one": TaskConfig(webhook=hook.url), "two": TaskConfig(webhook=other.url)}
        for number in range(40):
            await deliveries.ended(tool=("one", "two")[number % 2])
        for one in (hook, other):
            one.opened.clear()
        deliverer = WebhookDeliverer(deliveries.store, deliveries.settings, webhooks.get)
        sending = deliverer._sending = CountedTasks()
        deliverer.start()
        await hook.got(8)
        await other.got(8)
        hook.opened.set()  # one after the other ends, while those to the other receiver stay
        await hook.got(20)
        other.opened.set()
        await deliveries.settled()
        await deliverer.stop()
    assert sending.most == 16


class CountedTasks(set[asyncio.Task[None]]):
    most = 0
    """There were at a time."""

    def add(self, task: asyncio.Task[None]) -> None:
        super().add(task)
        self.most = max(self.most, len(self))


def test_a_receiver_that_does_not_answer_rests_twice_as_long_each_time_up_to_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receivers, "monotonic", lambda: 1000.0)
    known, url = receivers.Receivers(), "https://receiver.example"
    for expected in (1, 2, 4, 8, 16, 32, *[60] * 1100):
        known.note(url, Answer(None, "away"))
        assert known.turn(url) == receivers.Turn(expected, "away")
    known.note(url, Answer(500, "it answers"))
    assert known.turn(url) is None
    known.note(url, Answer(None, "away again"))
    assert known.turn(url) == receivers.Turn(1, "away again")


def test_a_receiver_has_twelve_messages_at_a_time_a_slow_one_four_and_the_others_wait_one_behind_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(receivers, "monotonic", lambda: clock[0])
    known, url = receivers.Receivers(), "https://receiver.example"
    for most, seconds in ((12, 2.0), (4, 0.5), (12, 0.5)):
        with ExitStack() as sent:
            for _ in range(most):
                assert known.turn(url) is None
                sent.enter_context(known.sending(url))
            first, second = known.turn(url), known.turn(url)
            assert first is not None
            assert second is not None
            assert first.why == "receiver.example has other messages first, and is slow to answer"
            assert 0 < first.seconds < second.seconds <= 60
            clock[0] += seconds
        assert known.turn("https://other.example") is None


def test_without_secrets_no_webhook_is_sent_which_is_logged_with_the_tools_that_have_one(
    redis: Redis, redis_url: str
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_secret="")
    policies = {"hooked": TaskConfig(webhook="https://hook.example"), "plain": TaskConfig()}
    with capture_logs() as logs:
        assert webhook_services(deliveries.store, deliveries.settings, Tools(policies)) == []  # type: ignore[arg-type]
    assert [(one["event"], one["tools"]) for one in logs] == [("webhooks.off", ["hooked"])]


@dataclass
class Tools:
    """Of a toolbox, what the service asks for."""

    known: dict[str, TaskConfig]

    def policies(self) -> dict[str, TaskConfig]:
        return self.known


async def test_a_connection_is_closed_with_the_answer_however_long_its_body_would_be() -> None:
    """Else a receiver that sends without end keeps a connection of every worker."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nand so on")
        while await reader.read(100):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, WebhookClient(timeout=20, allow_private=True) as http:
        answer = await http.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"{}")
        async with asyncio.timeout(20):
            await closed.wait()
    assert answer.is_delivered


async def test_a_worker_that_does_not_know_the_tool_leaves_its_webhook_to_others(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    """as one of an earlier release in the midst of a deployment."""
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url)
    await deliveries.ended()
    deliverer = WebhookDeliverer(deliveries.store, deliveries.settings, lambda _: None)
    deliverer.start()
    left = await deliveries.tried(1)
    await deliverer.stop()
    assert (left.is_given_up, left.error) == (False, "no worker that took it knows its webhook")
    await deliveries.make_due(left.task_id)
    async with deliveries.sending():
        await deliveries.settled()


async def test_a_worker_that_stops_waits_for_the_answers_to_what_it_has_sent(
    redis: Redis, redis_url: str, hook: Receiver
) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_url=hook.url)
    hook.opened.clear()
    await deliveries.ended()
    async with deliveries.sending() as deliverer:
        await hook.got()
        stopping = asyncio.create_task(deliverer.stop())
        await asyncio.sleep(0)
        hook.opened.set()
        await stopping
    assert await deliveries.undelivered() == []


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have each name have all of these addresses."""

    async def find(_host: str, port: int, **_: Any) -> list[Any]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(family, 1, 6, "", (address, port)) for family, address in zip(families, addresses, strict=True)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find)


async def test_one_private_address_beside_a_public_one_is_enough_to_send_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving_to(monkeypatch, "8.8.8.8", "10.0.0.1")
    async with WebhookClient(timeout=5, allow_private=False) as http:
        answer = await http.post("https://receiver.example/", {}, b"{}")
    assert (answer.status, "receiver.example is at 10.0.0.1, which is no public" in answer.why) == (None, True)


async def test_where_one_address_refuses_the_connection_the_next_one_gets_it(
    monkeypatch: pytest.MonkeyPatch, hook: Receiver
) -> None:
    resolving_to(monkeypatch, "127.0.0.9", "127.0.0.1")
    async with WebhookClient(timeout=5, allow_private=True) as http:
        answer = await http.post(hook.url.replace("127.0.0.1", "two.example"), {}, b"{}")
        resolving_to(monkeypatch, "127.0.0.9", "127.0.0.8")
        refused = await http.post(hook.url.replace("127.0.0.1", "two.example"), {}, b"{}")
    assert (answer.status, len(hook.received), refused.why) == (204, 1, "two.example: connection refused")


async def test_a_host_that_has_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find)
    async with WebhookClient(timeout=5, allow_private=True) as http:
        assert (await http.post("https://none.example/", {}, b"{}")).why == "none.example cannot be resolved"


async def test_a_body_has_the_result_or_the_error_or_says_why_not(redis: Redis, redis_url: str) -> None:
    deliveries = Deliveries(redis, redis_url, webhook_result=True)
    ends: dict[str, tuple[Any, Any, Any]] = {}
    outcomes = {
        "large": Returned({"content": [{"type": "text", "text": "x" * 300_000}]}),
        "refused": Refused(-32000, "not for you"),
        "failed": Failed(Fault.TIMEOUT, "too long"),
        "expired": DONE,
    }
    ids = {await deliveries.ended(outcome): name for name, outcome in outcomes.items()}
    expired = next(task_id for task_id, name in ids.items() if name == "expired")
    await redis.delete(deliveries.stores.keys.result(expired))
    cancelled = await deliveries.stores.create(webhook=ALL_ENDS)
    await deliveries.stores.store.cancel(cancelled, deliveries.stores.task().principal)
    ids[cancelled] = "cancelled"
    _, taken = await deliveries.store.take("", 10, timedelta(minutes=1))
    for one in taken:
        body = body_of(one.view, with_result=True)
        assert len(body) < 10_000
        data = json.loads(body)["data"]
        ends[ids[one.task_id]] = data["result"], data["error"], data["omitted"]
    assert ends == {
        "large": (None, None, "too_large"),
        "refused": (None, {"message": "not for you"}, None),
        "failed": (None, {"message": "too long"}, None),
        "expired": (None, None, "expired"),
        "cancelled": (None, None, None),
    }


def test_secrets_are_exchanged_by_a_file_and_a_mistake_in_it_changes_nothing(tmp_path: Path, redis_url: str) -> None:
    file = tmp_path / "secrets"
    file.write_text(SECRET)
    secrets = WebhookSecrets(WorkerSettings(redis_url=redis_url, webhook_secret_file=file))
    (first,) = secrets.current()
    with capture_logs() as logs:
        file.write_text(f"{OTHER_SECRET}\n{SECRET}\n")
        both = secrets.current()
        assert (len(both), both[1]) == (2, first)
        for broken in ("whsec_!", "# none yet\n", "\n"):
            file.write_text(broken)
            assert secrets.current() == secrets.current() == both
        file.unlink()
        assert secrets.current() == both
        file.write_text(SECRET)
        assert secrets.current() == (first,)
    assert {entry["event"] for entry in logs} == {"webhook.secrets_unreadable"}
    assert [one for one in logs if SECRET in str(one)] == []
