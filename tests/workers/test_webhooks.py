"""Webhooks: an ended task is told of once, signed, whatever the receiver and the workers do meanwhile."""

import asyncio
import base64
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from taskmill.server import TaskConfig, TaskServer
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.store.webhooks.deliveries import Delivery
from taskmill.workers.in_process import running_worker
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.webhooks.requests import WebhookClient
from tests.support.waiting import eventually_async
from tests.support.webhook_receiver import ALL_ENDS, SECRET, Receiver, receiver
from tests.workers.deployment import Deployment

OTHER_SECRET = "whsec_" + base64.b64encode(b"one that is to take its place...").decode()


def settings_of(hook: Receiver, **changes: Any) -> dict[str, Any]:
    """Settings of a worker that delivers there, and does not wait for long."""
    given = {"webhook_secret": SECRET, "webhook_allow_private": True, "webhook_url": hook.url}
    return {**given, "webhook_backoff": 0.05, "poll": 0.05, **changes}


async def create(deployment: Deployment, tool: str = "echo", **arguments: Any) -> str:
    """A task with a webhook."""
    task = replace(deployment.task(tool, **(arguments or {"text": "hello"})), webhook=ALL_ENDS)
    return (await deployment.store.create(task)).record.id


async def undelivered(deployment: Deployment) -> list[Delivery]:
    return await deployment.store.undelivered(None, limit=10)


async def settled(deployment: Deployment) -> None:
    """Wait until nothing is left to deliver; then nothing of it may be in Redis."""
    await eventually_async(lambda: undelivered(deployment), lambda found: not found)
    assert await deployment.redis.keys("*webhook*") == []
    assert await deployment.redis.keys("*deliveries*") == []


async def test_a_receiver_that_fails_twice_has_it_once_with_a_good_signature(
    deployment: Deployment, hook: Receiver
) -> None:
    hook.will_answer(500)
    hook.will_answer(503)
    await deployment.worker(**settings_of(hook, webhook_secret=f"{OTHER_SECRET},{SECRET}"))
    task_id = await create(deployment, "echo", text="Ada")
    first, second, third = await hook.got(3)
    await settled(deployment)
    assert len(hook.received) == 3
    assert first.id == second.id == third.id == f"ended_{task_id}"
    assert all(one.is_signed_with(secret) for one in hook.received for secret in (SECRET, OTHER_SECRET))
    record = await deployment.record(task_id)
    told = third.message
    assert (told["type"], told["data"]["id"], told["data"]["outcome"]) == ("task.succeeded", task_id, "succeeded")
    assert (told["data"]["tool"], told["data"]["queue"], told["data"]["attempts"]) == ("echo", "default", 1)
    assert told["timestamp"] == told["data"]["ended_at"] > told["data"]["created_at"]
    assert record.ended_ms is not None
    assert "Ada" not in third.body.decode()


@pytest.mark.usefixtures("short_lease")
async def test_what_a_killed_worker_was_sending_is_sent_by_another_under_the_same_id(
    deployment: Deployment, hook: Receiver
) -> None:
    hook.opened.clear()
    slow = settings_of(hook, webhook_timeout=1)
    killed = await deployment.worker(**slow)
    await create(deployment)
    (first,) = await hook.got()
    await deployment.worker(**slow)
    await killed.kill()
    hook.opened.set()
    _, second = await hook.got(2)
    await settled(deployment)
    assert second.id == first.id


async def test_a_receiver_that_hangs_is_given_up_for_the_moment_and_tried_again(
    deployment: Deployment, hook: Receiver
) -> None:
    hook.opened.clear()
    worker = await deployment.worker(**settings_of(hook, webhook_timeout=0.2))
    await create(deployment)
    (failed,) = await eventually_async(lambda: worker.said("webhook.failed"))
    hook.opened.set()
    await hook.got(2)
    await settled(deployment)
    assert failed["why"] == "127.0.0.1 did not answer within 0.2 s"
    assert "of-the-receiver" not in worker.log()


async def test_a_receiver_that_answers_410_is_left_in_peace_until_an_operator_wants_it(
    deployment: Deployment, hook: Receiver
) -> None:
    hook.will_answer(410)
    await deployment.worker(**settings_of(hook))
    task_id = await create(deployment)
    (given_up,) = await eventually_async(
        lambda: undelivered(deployment), lambda found: found and found[0].is_given_up, within=20
    )
    assert (given_up.task_id, given_up.tries, given_up.error) == (task_id, 1, "127.0.0.1 answered 410")
    assert await deployment.store.retry_webhook(task_id)
    first, second = await hook.got(2)
    await settled(deployment)
    assert first.id == second.id
    assert not await deployment.store.retry_webhook(task_id)


async def test_its_time_is_up_after_a_last_failure(deployment: Deployment, hook: Receiver) -> None:
    hook.will_answer(500)
    worker = await deployment.worker(**settings_of(hook, webhook_give_up=0.01))
    await create(deployment)
    (line,) = await eventually_async(lambda: worker.said("webhook.given_up"))
    assert (line["tries"], line["why"]) == (1, "127.0.0.1 answered 500")


async def test_a_redirect_is_not_followed_and_a_wish_to_wait_is_heeded(deployment: Deployment, hook: Receiver) -> None:
    hook.will_answer(307, location=hook.url)
    hook.will_answer(429, **{"retry-after": "3600"})
    worker = await deployment.worker(**settings_of(hook))
    await create(deployment)
    redirected, refused = await eventually_async(
        lambda: worker.said("webhook.failed"), lambda lines: len(lines) == 2, within=20
    )
    assert redirected["why"] == "127.0.0.1 answered 307, a redirect, which is not followed"
    assert redirected["next_try"] < 1
    assert refused["next_try"] == 3600
    assert len(hook.received) == 2


async def test_a_name_that_resolves_to_a_private_address_gets_nothing(deployment: Deployment, hook: Receiver) -> None:
    address = hook.url.replace("http://127.0.0.1", "https://localhost")
    worker = await deployment.worker(**settings_of(hook, webhook_url=address, webhook_allow_private=False))
    await create(deployment)
    (line, *_) = await eventually_async(lambda: worker.said("webhook.failed"))
    assert line["why"].endswith("which is no public address (TASKMILL_WEBHOOK_ALLOW_PRIVATE=1 permits it)")
    assert hook.received == []


async def test_a_task_that_ends_without_a_worker_is_told_of_too(deployment: Deployment, hook: Receiver) -> None:
    task_id = await create(deployment)
    await deployment.store.cancel(task_id, OPERATOR, reason="operator")
    await deployment.worker(**settings_of(hook))
    (told,) = await hook.got()
    await settled(deployment)
    assert (told.message["type"], told.message["data"]["reason"]) == ("task.cancelled", "operator")
    assert told.message["data"]["started_at"] is None


@pytest.mark.usefixtures("short_lease")
async def test_a_webhook_that_cannot_be_read_holds_up_no_other_and_is_sent_once_it_can_be(
    deployment: Deployment, hook: Receiver
) -> None:
    broken, whole = await create(deployment), await create(deployment)
    for task_id in (broken, whole):
        await deployment.store.cancel(task_id, OPERATOR, reason="operator")
    kept = deployment.keys.webhook(broken)
    status = await deployment.redis.hget(kept, "status")  # type: ignore[misc]
    assert status is not None
    await deployment.redis.hset(kept, "status", "of-a-later-version")  # type: ignore[misc]
    await deployment.worker(**settings_of(hook, webhook_timeout=1))
    (told,) = await hook.got()
    assert told.message["data"]["id"] == whole
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.webhooks), lambda left: left == 1)
    assert await undelivered(deployment) == []
    await deployment.redis.hset(kept, "status", status)  # type: ignore[misc]
    _, late = await hook.got(2)
    await settled(deployment)
    assert late.message["data"]["id"] == broken


async def test_deliveries_go_on_once_redis_refuses_their_commands_no_longer(
    deployment: Deployment, hook: Receiver
) -> None:
    due = deployment.keys.deliveries("")
    await deployment.redis.set(due, "of another program")
    worker = await deployment.worker(**settings_of(hook))
    (line, *_) = await eventually_async(lambda: worker.said("service.failed"), within=20)
    assert (line["service"], "exception" in line) == ("taskmill.webhooks", False)
    assert line["why"].startswith("Redis refused a command")
    await deployment.redis.delete(due)
    await create(deployment)
    await hook.got()
    await settled(deployment)


async def test_the_result_is_sent_if_the_operator_wants_it(deployment: Deployment, hook: Receiver) -> None:
    await deployment.worker(**settings_of(hook, webhook_result=True))
    await create(deployment, "echo", text="Ada")
    (told,) = await hook.got()
    await settled(deployment)
    assert "Ada" in told.message["data"]["result"]["content"][0]["text"]
    assert (told.message["data"]["error"], told.message["data"]["omitted"]) == (None, None)


async def test_a_slow_receiver_with_many_messages_holds_up_no_other(deployment: Deployment, hook: Receiver) -> None:
    async def work() -> str:
        return "worked"

    hook.opened.clear()
    async with receiver() as other:
        mcp: TaskServer[Any] = TaskServer("Hooks")
        mcp.add_tool(work, "slow", task=TaskConfig(webhook=hook.url))
        mcp.add_tool(work, "other", task=TaskConfig(webhook=other.url))
        for tool in (*["slow"] * 40, "other"):
            await deployment.store.cancel(await create(deployment, tool), OPERATOR, reason="operator")
        settings = WorkerSettings(**{**deployment.settings, **settings_of(hook, webhook_timeout=120)})
        async with running_worker(mcp, settings):
            (told,) = await other.got()
            assert (told.message["data"]["tool"], len(hook.received) < 16) == ("other", True)
            hook.opened.set()
            await hook.got(40)


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have each further look-up of any name find the next address; the names that were looked up."""
    asked: list[str] = []

    async def find(host: str, port: int, **_: Any) -> list[Any]:
        address = addresses[len(asked)]
        asked.append(host)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find)
    return asked


async def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, hook: Receiver
) -> None:
    """a name may resolve otherwise a moment later: it is looked up once."""
    asked = resolving_to(monkeypatch, "127.0.0.1", "127.0.0.9")
    async with WebhookClient(timeout=5, allow_private=True) as http:
        answer = await http.post(hook.url.replace("127.0.0.1", "rebinding.example"), {}, b"{}")
    assert (answer.status, asked) == (204, ["rebinding.example"])
    assert hook.received[0].headers["host"].startswith("rebinding.example:")


async def test_no_address_inside_a_network_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """also where an address of IPv6 stands for one of IPv4."""
    inside = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1"]
    inside += ["fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::"]
    inside += ["64:ff9b:1::a00:1", "::10.0.0.1", "::ffff:0:a00:1", "fec0::1", "5f00::1", "3fff::1", "192.0.0.8"]
    resolving_to(monkeypatch, *inside)
    async with WebhookClient(timeout=5, allow_private=False) as http:
        answers = [await http.post("https://receiver.example/", {}, b"{}") for _ in inside]
    assert [one.why for one in answers if "which is no public address" not in one.why] == []


@pytest.mark.parametrize(
    "wish", ["1 Jan 2020 00:00:00 +99999999999999999999", "Mon, 01 Jan 99999 00:00:00 GMT", "-1", "soon", "nan"]
)
async def test_a_wish_to_wait_that_makes_no_sense_is_none(hook: Receiver, wish: str) -> None:
    hook.will_answer(429, **{"retry-after": wish})
    async with WebhookClient(timeout=5, allow_private=True) as http:
        answer = await http.post(hook.url, {}, b"{}")
    assert (answer.why, answer.retry_after) == ("127.0.0.1 answered 429", 0)


async def test_nothing_goes_unencrypted_to_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, "8.8.8.8")
    async with WebhookClient(timeout=5, allow_private=True) as http:
        answer = await http.post("http://receiver.example/", {}, b"{}")
    assert answer.why == "receiver.example is at 8.8.8.8, a public address, where a webhook must begin with https://"


def certificate_of(name: str, folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key, day = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1)
    named, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    builder = x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number(), now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


async def test_the_certificate_has_to_be_the_hosts_and_not_the_addresss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = certificate_of("receiver.example", tmp_path)
    resolving_to(monkeypatch, *["127.0.0.1"] * 3)
    async with receiver(ssl_certfile=certificate, ssl_keyfile=key) as hook:
        address = hook.url.replace("http://127.0.0.1", "https://receiver.example")
        async with WebhookClient(timeout=10, allow_private=True) as http:
            stranger = await http.post(address, {}, b"{}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with WebhookClient(timeout=10, allow_private=True) as http:
            known = await http.post(address, {}, b"{}")
            other = await http.post(address.replace("receiver.example", "other.example"), {}, b"{}")
    assert stranger.why.startswith("receiver.example: its certificate is refused")
    assert other.why.startswith("other.example: its certificate is refused")
    assert (known.status, len(hook.received)) == (204, 1)
