"""Tens of thousands of hostile requests of every kind; and flaws put in on purpose, which the judges must see."""

import pytest
from redis.asyncio import Redis

from tests.fuzz import asgi
from tests.fuzz.asgi import Asked, exchange
from tests.fuzz.choices import Choices
from tests.fuzz.hostile import hostile
from tests.fuzz.hostile_params import METHODS
from tests.fuzz.inserted_faults import INSERTED_FAULTS, with_fault
from tests.fuzz.messages_part import attack_with_messages
from tests.fuzz.oracle import ARGUMENT, faults_of, watched, wrong_keys
from tests.fuzz.target import Target
from tests.support.invariants import read_redis

READY = Asked("GET", "/readyz", ((b"host", b"127.0.0.1:8000"),))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_hostile_requests_are_answered_as_what_they_are() -> None:
    """No 5xx, no crash in an answer or a log, no hang, nothing left in Redis or in the process; and it still serves."""
    report = attack_with_messages(10_000)

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples >= 10_000


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("not asked for")


@pytest.mark.parametrize("flaw", INSERTED_FAULTS)
async def test_a_flaw_put_in_on_purpose_is_seen(flaw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "TIMEOUT", 0.2)
    with watched() as log:
        answer = await exchange(with_fault(flaw)(_nothing), READY)
        faults = faults_of(READY, answer) + log.faults()
    assert [fault for fault in faults if fault.startswith(INSERTED_FAULTS[flaw][1])], faults
    assert log.faults() == [], "said once"


@pytest.mark.timeout(120)
def test_one_flaw_among_many_requests_is_found_and_kept() -> None:
    report = attack_with_messages(3000, wrap=with_fault("a 500"))

    assert [fault for fault in report.faults if fault.startswith("status 500")]
    assert "target='/readyz'" in report.kept[0].read_text()


async def test_an_argument_in_the_log_is_seen() -> None:
    import structlog

    with watched() as log:
        structlog.get_logger().info("task.created", arguments={"text": ARGUMENT})
        assert [fault for fault in log.faults() if ARGUMENT in fault]


async def test_what_redis_must_not_keep_is_seen(redis: Redis) -> None:
    await redis.set("somebody:else", 1)
    await redis.set("{taskmill}:turn:x:y", 1)
    await redis.hset("{taskmill}:task:made-up", "status", "running")  # type: ignore[misc]
    await redis.set("{taskmill}:secret", b"allowed")
    await redis.set("{taskmill}:reply:x:y", b"passes", px=60_000)

    assert wrong_keys(await read_redis(redis)) == [
        "no one declares the key 'somebody:else'",
        "'{taskmill}:task:made-up' is of no task",
        "'{taskmill}:turn:x:y' never expires",
    ]


def test_what_a_request_said_itself_is_no_telltale() -> None:
    said = Asked("POST", "/mcp", body=b'{"method": "KeyError"}')
    answer = asgi.Answer(404, [(b"content-type", b"application/json")], b'{"data": "KeyError"}', is_whole=True)
    assert faults_of(said, answer) == []
    assert faults_of(READY, answer) == ["reveals an internal: 'KeyError'"]


def test_every_method_of_both_revisions_is_sent() -> None:
    """Counted over what the first bytes choose, so that none is left out by the way choices are made."""
    target = Target(None, {})  # type: ignore[arg-type]
    sent = [hostile(Choices(bytes(data)), target)[1].body for data in _prefixes()]
    missing = {
        method for method in METHODS if method.isascii() and not any(f'"{method}"'.encode() in one for one in sent)
    }
    assert missing == set()


def _prefixes() -> list[list[int]]:
    return [[0, 0, 0, at] for at in range(256)]
