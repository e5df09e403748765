"""Idempotency over the wire: the same call is one task, whoever sends it how often, and never another call's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import PolicyError
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.tools.call_keys import META_KEY
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings
from tests.support.replica import Json, Rpc, client_of, working


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Once", store=settings)

    def journal_of(path: str) -> None:
        with Path(path).open("a") as journal:
            journal.write("ran\n")

    @mcp.tool(task=TaskConfig(idempotency="{month}"))
    async def report(month: str, journal: str, gate: str = "", fail: bool = False) -> str:
        """One report a month."""
        journal_of(journal)
        while gate and not Path(gate).exists():
            await asyncio.sleep(0.01)
        if fail:
            raise RuntimeError("broken")
        return f"report of {month}"

    @mcp.tool(task=TaskConfig(idempotency="_meta"))
    async def order(item: str, ctx: Context[Any, Any]) -> str:
        """The client names the key."""
        return f"{item} as {ctx.task_id}"

    @mcp.tool(task=TaskConfig(idempotency=["amount", "currency"]))
    async def pay(amount: float, currency: str = "EUR") -> str:
        """Its key counts defaults."""
        return f"{amount:g} {currency}"

    def by_first_letter(arguments: Any) -> str | None:
        if arguments["word"] == "crash":
            raise RuntimeError("the secret word is swordfish")
        return arguments["word"][:1] or None

    @mcp.tool(task=TaskConfig(idempotency=by_first_letter))
    async def spell(word: str) -> str:
        """Its key is what a function says."""
        return word

    return mcp


@pytest.fixture
async def client(redis: Redis, settings: StoreSettings) -> AsyncIterator[Rpc]:
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        yield rpc


def runs(journal: Path) -> int:
    return len(journal.read_text().splitlines())


async def ordered(client: Rpc, item: str, key: Any) -> Json:
    call = {"name": "order", "arguments": {"item": item}, "_meta": {META_KEY: key}}
    return await client.ask("tools/call", call, name="order")


async def test_a_hundred_identical_calls_of_five_clients_are_one_task_that_runs_once(
    client: Rpc, settings: StoreSettings, tmp_path: Path
) -> None:
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    arguments = {"month": "May", "journal": str(journal), "gate": str(gate)}
    async with client_of(make_server(settings)) as replica:
        clients = [Rpc(httpx2.AsyncClient(timeout=30), at.url) for at in (client, replica, client, replica, client)]
        calls = [each.task("report", **arguments) for each in clients for _ in range(20)]
        ids = await asyncio.gather(*calls)
        gate.touch()
        task = await client.done(ids[0])
        late = await replica.task("report", **arguments)
        for each in clients:
            await each.http.aclose()

    assert {*ids, late} == {ids[0]}
    assert task["result"]["content"][0]["text"] == "report of May"
    assert runs(journal) == 1


async def test_clients_without_tasks_wait_for_the_same_task_and_one_that_leaves_does_not_end_it(
    client: Rpc, redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    arguments = {"month": "May", "journal": str(journal), "gate": str(gate)}
    plain = client.without_tasks()
    leaving = asyncio.create_task(plain.call("report", **arguments))
    with anyio.fail_after(30):
        while not journal.exists():
            await asyncio.sleep(0.01)
    staying = asyncio.create_task(plain.call("report", **arguments))
    leaving.cancel()
    await asyncio.wait([leaving])
    task_id = await client.task("report", **arguments)
    gate.touch()

    assert (await staying)["result"]["content"][0]["text"] == "report of May"
    assert (await client.get(task_id))["result"]["status"] == "completed"
    assert runs(journal) == 1
    assert await redis.zcard(Keys(settings.prefix).live) == 0


async def test_a_call_whose_first_task_failed_or_was_cancelled_runs_again(client: Rpc, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    failed = await client.task("report", month="May", journal=str(journal), fail=True)
    await client.done(failed)
    cancelled = await client.task("report", month="May", journal=str(journal), gate=str(tmp_path / "never"))
    await client.ask("tasks/cancel", {"taskId": cancelled}, name=cancelled)
    fresh = await client.task("report", month="May", journal=str(journal))
    await client.done(fresh)

    assert len({failed, cancelled, fresh}) == 3
    assert await client.task("report", month="May", journal=str(journal)) == fresh


async def test_the_client_names_the_key_and_may_not_use_it_for_another_call(client: Rpc) -> None:
    first = (await ordered(client, "tea", "click 1"))["result"]["taskId"]
    await client.done(first)
    again = (await ordered(client, "tea", "click 1"))["result"]["taskId"]
    other = (await ordered(client, "tea", "click 2"))["result"]["taskId"]
    unnamed = [await client.task("order", item="tea") for _ in range(2)]
    reused = (await ordered(client, "milk", "click 1"))["error"]

    assert again == first
    assert len({first, other, *unnamed}) == 4
    assert (reused["code"], "send a new key" in reused["message"]) == (-32602, True)


@pytest.mark.parametrize("key", ["", "x" * 257, 7, ["a"], {"a": 1}], ids=["empty", "long", "number", "list", "object"])
async def test_a_key_that_is_no_text_is_refused(client: Rpc, key: Any) -> None:
    error = (await ordered(client, "tea", key))["error"]

    assert error["code"] == -32602
    assert error["message"] == f"_meta.{META_KEY} must be text of 1 to 256 characters."


async def test_a_default_counts_as_if_it_had_been_sent(client: Rpc) -> None:
    bare = await client.task("pay", amount=3)

    assert await client.task("pay", amount=3.0, currency="EUR") == bare
    assert await client.task("pay", amount=3, currency="CHF") != bare


async def test_a_function_makes_the_key_and_none_is_no_key(client: Rpc) -> None:
    first = await client.task("spell", word="ape")

    assert await client.task("spell", word="apple") == first
    assert await client.task("spell", word="bee") != first
    assert await client.task("spell", word="") != await client.task("spell", word="")


async def test_a_key_function_that_crashes_is_told_as_a_crash_of_the_tool_and_makes_no_task(
    client: Rpc, redis: Redis, settings: StoreSettings
) -> None:
    result = (await client.call("spell", word="crash"))["result"]

    assert (result["isError"], result["content"][0]["text"]) == (True, "Error executing tool spell")
    assert await redis.zcard(Keys(settings.prefix).all) == 0


async def test_a_key_of_an_argument_that_is_not_there_is_refused_at_import_and_names_the_tool() -> None:
    mcp: TaskServer[Any] = TaskServer("Once")
    with pytest.raises(PolicyError) as refused:

        @mcp.tool(task=TaskConfig(idempotency="{order_id}"))
        async def ship(order: str) -> str:
            return order

    assert str(refused.value) == (
        "Tool 'ship': idempotency names 'order_id', which is no argument of the tool: it has order"
    )
