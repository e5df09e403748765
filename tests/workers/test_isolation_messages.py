"""Frames between a worker and an isolated tool's process: JSON in, the same out, and exceptions of the same class."""

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

from taskmill.engine.errors import QuotaExceeded
from taskmill.server import Retry
from taskmill.workers.isolation.messages import (
    RemoteCrash,
    UnfitMessage,
    encoded,
    exception_from_json,
    exception_to_json,
    messages_from,
    read_message,
)


async def read(*parts: bytes) -> list[dict[str, Any] | None]:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    return [await read_message(reader) for _ in parts]


async def test_messages_come_out_as_they_went_in_and_the_end_is_none() -> None:
    sent: list[dict[str, Any]] = [{"text": "ü\n\u2028", "list": [1, None, 2.5]}, {}, {"big": "x" * 200_000}]

    assert await read(*map(encoded, sent), b"") == [*sent, None]


@pytest.mark.parametrize("sent", [b"\0\0\0\x04oops", b"\0\0\0\x02[]", b"\xff\xff\xff\xff{}"])
async def test_what_is_no_message_is_refused_before_it_fills_the_memory(sent: bytes) -> None:
    with pytest.raises(UnfitMessage):
        await read(sent)


@pytest.mark.parametrize("torn", [b"\0", b"\0\0\0\x05", b"\0\0\0\x05{}"])
async def test_a_torn_message_is_the_end(torn: bytes) -> None:
    assert await read(torn) == [None]


def test_a_thread_hears_every_message_and_then_the_end() -> None:
    here, there = socket.socketpair()
    there.sendall(encoded({"a": 1}) + encoded({}))
    there.close()

    with here:
        assert list(messages_from(here)) == [{"a": 1}, {}]


@pytest.mark.parametrize("torn", [b"\0", b"\0\0\0\x05", b"\0\0\0\x05{}"])
def test_a_thread_takes_a_torn_message_for_the_end(torn: bytes) -> None:
    here, there = socket.socketpair()
    there.sendall(encoded({"a": 1}) + torn)
    there.close()

    with here:
        assert list(messages_from(here)) == [{"a": 1}]


def test_a_thread_takes_a_reset_for_the_end() -> None:
    """A worker is killed while it has words of the process unread."""
    here, there = socket.socketpair()
    here.sendall(b"unread")
    there.sendall(encoded({"a": 1}))
    there.close()

    with here:
        assert list(messages_from(here)) == [{"a": 1}]


def test_what_is_not_json_is_not_sent() -> None:
    with pytest.raises(TypeError):
        encoded({"a": {1, 2}})


class Detailed(Exception):
    """An exception that cannot be made of one text."""

    def __init__(self, code: int, where: object) -> None:
        super().__init__(f"{code} at {where}")
        self.code = code
        self.where = where


@pytest.mark.parametrize(
    "crash",
    [KeyError("k"), QuotaExceeded("full", limit=3), Detailed(7, object()), SystemExit("bye"), UnicodeError("u")],
    ids=lambda crash: type(crash).__name__,
)
def test_an_exception_comes_out_as_one_of_the_same_class_with_its_words_and_traceback(crash: BaseException) -> None:
    try:
        raise crash
    except BaseException as raised:
        made = exception_from_json(exception_to_json(raised))

    assert type(made) is type(crash)
    assert str(made) in (str(crash), repr(str(crash)))
    assert "test_isolation_messages.py" in str(made.__cause__)


def test_what_of_an_exceptions_attributes_is_json_comes_along_and_lengths_of_time() -> None:
    detailed = exception_from_json(exception_to_json(Detailed(7, object())))
    again = exception_from_json(exception_to_json(Retry("later", after=1.5)))

    assert isinstance(detailed, Detailed)
    assert detailed.code == 7
    assert isinstance(again, Retry)
    assert again.after == timedelta(seconds=1.5)


@pytest.mark.parametrize(
    "place", [("nowhere", "Gone"), ("builtins", "print"), ("builtins", "Missing"), ("os", "path.join")]
)
def test_a_class_that_is_not_here_becomes_a_crash_that_names_it(place: tuple[str, str]) -> None:
    module, name = place
    made = exception_from_json({"module": module, "name": name, "text": "why", "facts": {}, "lengths": {}, "trace": ""})

    assert type(made) is RemoteCrash
    assert str(made) == f"{name}: why"


def test_a_group_of_exceptions_becomes_a_crash_that_tells_of_it() -> None:
    made = exception_from_json(exception_to_json(ExceptionGroup("several", [ValueError("a")])))

    assert type(made) is RemoteCrash
    assert "several" in str(made)
