"""Callers of a server that is not ours are kept apart: each has its own session there, and what it sends is its own."""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import LoggingMessageNotificationParams

from taskmill.adapters.remote import sessions
from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target
from taskmill.testing import ClientKind, TestBed
from tests.adapters import raw_foreign_server
from tests.adapters.fastmcp_auth import ANN, BOB, Verifier
from tests.adapters.remote_servers import foreign_words, served
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHost:
    """The server of pipes, behind a check of tokens."""
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    made = RemoteHost(command_target([sys.executable, raw_foreign_server.__file__]), RemoteSettings())
    made.server.auth = Verifier()
    return made


@pytest.mark.parametrize("kind", [*ClientKind])
async def test_two_callers_have_two_sessions_and_each_keeps_its_own(
    host: RemoteHost, bed_of: BedOf, kind: ClientKind
) -> None:
    async with bed_of(host, handoff_after=5) as bed:
        seen = {}
        for name, token in (("ann", ANN), ("bob", BOB)):
            async with bed.client(kind, token=token) as client:
                seen[name] = {(await client.call("pid")).text for _ in range(2)}
    assert [len(pids) for pids in seen.values()] == [1, 1]
    assert seen["ann"] != seen["bob"]


async def test_what_the_server_sends_reaches_the_caller_that_it_is_for(host: RemoteHost, bed_of: BedOf) -> None:
    async with bed_of(host, handoff_after=30) as bed, AsyncExitStack() as stack:
        ann = await stack.enter_async_context(bed.client(ClientKind.HELD, token=ANN))
        bob = await stack.enter_async_context(bed.client(ClientKind.HELD, token=BOB))
        of_ann, of_bob = await asyncio.gather(ann.call("talk", word="ann's"), bob.call("talk", word="bob's"))
    for record, own in ((of_ann, "ann's"), (of_bob, "bob's")):
        assert record.text == own
        messages = {update.message for update in record.seen}
        assert any(own in message for message in messages), messages
        assert not any(other in message for message in messages for other in {"ann's", "bob's"} - {own}), messages


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025])
async def test_a_question_goes_to_its_caller_and_the_answer_back(
    host: RemoteHost, bed_of: BedOf, kind: ClientKind
) -> None:
    async def asked(token: str, colour: str) -> tuple[str, list[str]]:
        async with bed.client(kind, token=token, answers=[{"value": colour}]) as client:
            record = await client.call("ask", question=f"For {colour}?")
            return json.loads(record.text)["content"]["value"], [one["params"]["message"] for one in record.questions]

    async with bed_of(host) as bed:
        found = await asyncio.gather(asked(ANN, "red"), asked(BOB, "blue"))
    assert found == [("red", ["For red?"]), ("blue", ["For blue?"])]


@pytest.mark.parametrize("kind", [*ClientKind])
async def test_a_model_and_roots_are_asked_through_each_class_of_client(
    host: RemoteHost, bed_of: BedOf, kind: ClientKind
) -> None:
    """In the middle of a call over pipes, of a revision that lets a server ask."""
    answers = {"sampling/createMessage": "a model's text", "roots/list": ["file:///shelf"]}

    def answer_to(question: dict[str, Any]) -> Any:
        return answers[question["method"]]

    async with bed_of(host) as bed, bed.client(kind, token=ANN, answers=answer_to) as client:
        sampled, roots = await client.call("sample", question="Who?"), await client.call("roots")
    if kind is ClientKind.HANDED_OFF:
        # It has declared neither, and roots cannot be asked of a model.
        assert "a model's text" in sampled.text
        assert "no roots" in roots.text
        return
    assert json.loads(sampled.text)["content"]["text"] == "a model's text"
    assert json.loads(roots.text)["roots"][0]["uri"] == "file:///shelf"


async def test_calls_of_one_caller_at_the_same_time_get_their_own_progress(host: RemoteHost, bed_of: BedOf) -> None:
    async with bed_of(host, handoff_after=30) as bed, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(bed.client(ClientKind.HELD, token=ANN)) for _ in range(3)]
        words = ["first", "second", "third"]
        records = await asyncio.gather(
            *(client.call("talk", word=word) for client, word in zip(clients, words, strict=True))
        )
    for record, word in zip(records, words, strict=True):
        others = set(words) - {word}
        assert record.text == word
        assert not [one for one in record.seen if any(other in one.message for other in others)], record.seen


@pytest.mark.parametrize("tasks", ["*", "none"], ids=["tasks", "foreground"])
async def test_the_server_is_asked_with_the_operators_token_and_never_with_the_callers(
    tmp_path: Path, bed_of: BedOf, tasks: str
) -> None:
    with served(foreign_words(tmp_path), tmp_path) as url:
        for settings, expected in (
            (RemoteSettings(task=(tasks,), upstream_token="the-operators"), "Bearer the-operators"),
            (RemoteSettings(task=(tasks,), upstream_headers=("Authorization: Basic abc",)), "Basic abc"),
            (RemoteSettings(task=(tasks,)), "no one"),
        ):
            host = RemoteHost(url, settings)
            host.server.auth = Verifier()
            async with bed_of(host) as bed, bed.client(ClientKind.HELD, token=ANN) as client:
                assert (await client.call("authorization")).text == expected


async def test_a_session_without_a_use_ends_with_its_process(
    host: RemoteHost, bed_of: BedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_IDLE", 0.2)
    async with bed_of(host) as bed, bed.client(ClientKind.TASKS_2026, token=ANN) as client:
        first = (await client.call("pid")).text
        await eventually_async(Path(f"/proc/{first}").exists, lambda there: not there, within=30)
        assert (await client.call("pid")).text not in ("", first)


async def test_log_messages_of_a_tool_that_is_no_task_reach_its_client(
    tmp_path: Path, bed_of: BedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    words = [sys.executable, raw_foreign_server.__file__]
    async with bed_of(RemoteHost(command_target(words), RemoteSettings(task=("none",)))) as bed:

        async def talked(word: str) -> set[str]:
            received: set[str] = set()

            async def receive(message: LoggingMessageNotificationParams) -> None:
                received.add(json.dumps(message.data))

            async with Client(bed.url, mode="legacy", logging_callback=receive) as client:
                await client.call_tool("talk", {"word": word})
            return received

        of_ann, of_bob = await asyncio.gather(talked("ann's"), talked("bob's"))
    assert of_ann
    assert all("ann's" in one for one in of_ann)
    assert of_bob
    assert all("bob's" in one for one in of_bob)
