"""What the nodes of a cluster say of a slot, and which of them is asked: by nodes that answer as they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from anyio import fail_after
from redis.exceptions import AuthenticationError, ConnectionError, ReadOnlyError, ResponseError

from taskmill.engine.errors import RedisUnfit
from taskmill.store.connection.client import connect
from taskmill.store.connection.cluster import ClusterTarget, Node, SlotUnavailable, cluster_target_of
from taskmill.store.formats.cluster_address import slot_of
from taskmill.store.settings import StoreSettings
from tests.support.redis_server import free_port

SLOT = slot_of("taskmill")
ELSEWHERE = ("192.0.2.1", 7000)


@asynccontextmanager
async def node(answer: str, *replies: str) -> AsyncIterator[int]:
    """A node; its port. It gives each question for the slots this answer, as it goes over the wire, and each further
    GET the next of these replies, the last of them for ever. Without an answer it has all slots itself.
    """
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while parts := int((await reader.readline() or b"*0")[1:]):
            words = []
            for _ in range(parts):
                await reader.readline()
                words.append((await reader.readline()).strip())
            whole = slots(range_of(0, 16383, None, writer.get_extra_info("sockname")[1]))
            reply = (answer or whole) if b"SLOTS" in words else "+OK\r\n"
            if words[0] == b"GET":
                reply = left.pop(0) if len(left) > 1 else left[0]
            writer.write(reply.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def range_of(first: int, last: int, host: str | None, port: int) -> str:
    """One range of slots as a node gives it."""
    name = "$-1" if host is None else f"${len(host)}\r\n{host}"
    return f"*3\r\n:{first}\r\n:{last}\r\n*3\r\n{name}\r\n:{port}\r\n$2\r\nid\r\n"


def slots(*ranges: str) -> str:
    return f"*{len(ranges)}\r\n{''.join(ranges)}"


def target_of(*ports: int) -> ClusterTarget:
    target = cluster_target_of("redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports), "taskmill")
    assert target is not None
    return target


async def found_in(answer: str) -> set[Node]:
    """The primary, as it is found by a node that answers so, with and without an event loop."""
    async with node(answer) as port:
        return {await target_of(port).primary(), await asyncio.to_thread(target_of(port).primary_blocking)}


async def test_the_primary_is_that_of_the_range_with_the_slot_at_both_of_its_ends() -> None:
    before, behind = range_of(0, SLOT - 1, "192.0.2.8", 1), range_of(SLOT + 1, 16383, "192.0.2.9", 2)
    assert await found_in(slots(before, range_of(SLOT, SLOT, *ELSEWHERE), behind)) == {ELSEWHERE}


@pytest.mark.parametrize("host", [None, "", "?"], ids=["null", "empty", "unknown"])
async def test_a_node_without_a_host_of_its_own_has_that_by_which_it_was_asked(host: str | None) -> None:
    assert await found_in(slots(range_of(0, 16383, host, 7000))) == {("127.0.0.1", 7000)}


async def test_a_node_that_does_not_answer_or_knows_no_slots_is_passed_over() -> None:
    async with node("-ERR busy\r\n") as broken, node(slots(range_of(0, 16383, *ELSEWHERE))) as sound:
        for ports in ((free_port(), sound), (broken, sound)):
            assert await target_of(*ports).primary() == ELSEWHERE
            assert await asyncio.to_thread(target_of(*ports).primary_blocking) == ELSEWHERE


async def test_the_node_that_has_just_been_asked_is_asked_last_the_next_time_and_a_removed_one_no_more() -> None:
    """It may be cut off from the others, and know of nothing new."""
    async with node(slots(range_of(0, 16383, *ELSEWHERE))) as port:
        target = target_of(port)
        target.nodes.append(("192.0.2.7", 1))
        await target.primary()
        assert target.nodes == [ELSEWHERE, ("127.0.0.1", port)]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ("-WRONGPASS invalid\r\n", AuthenticationError, "invalid"),
        ("-NOPERM no permissions\r\n", RedisUnfit, r"ACL SETUSER <user> \+cluster\|slots"),
        ("-ERR This instance has cluster support disabled\r\n", RedisUnfit, r"write redis:// in place of"),
    ],
)
async def test_what_no_other_node_would_mend_is_raised_at_once(answer: str, error: Any, words: str) -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(node(one)) for one in (answer, slots(range_of(0, 16383, *ELSEWHERE)))]
        with pytest.raises(error, match=words):
            await target_of(*ports).primary()
        with pytest.raises(error, match=words):
            await asyncio.to_thread(target_of(*ports).primary_blocking)


async def test_a_slot_that_no_node_has_is_waited_for() -> None:
    async with node(slots(range_of(0, SLOT - 1, *ELSEWHERE))) as port:
        with pytest.raises(SlotUnavailable, match=f"no node has slot {SLOT}"):
            await target_of(port).primary()


async def test_a_primary_without_a_replica_is_a_warning() -> None:
    async with node(slots(range_of(0, 16383, *ELSEWHERE))) as port:
        (finding,) = await target_of(port).findings()
    assert (finding.level, finding.remedy) == ("warning", "give that primary a replica: its tasks are lost with it")


@pytest.mark.parametrize(
    ("error", "asked_first"),
    [
        (ResponseError(f"MOVED {SLOT} 192.0.2.1:7000"), ELSEWHERE),
        (ResponseError(f"MOVED {SLOT} ::1:7000"), ("::1", 7000)),
        (ResponseError(f"MOVED {SLOT} :7000"), ("127.0.0.1", 2)),
        (ResponseError(f"ASK {SLOT} 192.0.2.1:7000"), ("127.0.0.1", 1)),
        (ResponseError("TRYAGAIN Multiple keys request during rehashing of slot"), ("127.0.0.1", 1)),
        (ResponseError("CLUSTERDOWN The cluster is down"), ("127.0.0.1", 2)),
        (ResponseError("MASTERDOWN Link with MASTER is down"), ("127.0.0.1", 2)),
        (ResponseError("UNBLOCKED force unblock from blocking operation"), ("127.0.0.1", 2)),
        (ReadOnlyError("You can't write against a read only replica."), ("127.0.0.1", 2)),
    ],
    ids=str,
)
def test_a_refusal_of_the_slot_counts_as_a_broken_connection_and_says_whom_to_ask(
    error: Exception, asked_first: Node
) -> None:
    target = target_of(1, 2)
    assert isinstance(target.translated(error), ConnectionError)
    assert target.nodes[0] == asked_first


def test_any_other_refusal_stays_what_it_is() -> None:
    target, error = target_of(1, 2), ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert target.translated(error) is error


MOVING = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"


@asynccontextmanager
async def client_of(*replies: str, timeout: float = 10) -> AsyncIterator[Any]:
    """A client of a node that has all slots, and gives its GETs these replies."""
    async with node("", *replies) as port:
        client = connect(StoreSettings(redis_url=f"redis+cluster://127.0.0.1:{port}", command_timeout=timeout))
        yield client
        await client.aclose()


async def test_a_slot_that_moves_is_waited_for_longer_than_a_broken_connection() -> None:
    async with client_of(*[MOVING] * 6, "+here\r\n") as client:
        assert await client.get("x") == b"here"


async def test_a_slot_that_never_arrives_is_waited_for_as_long_as_a_reply_would_be() -> None:
    async with client_of(MOVING, timeout=0.1) as client:
        with fail_after(20), pytest.raises(SlotUnavailable):
            await client.get("x")


async def test_refusals_of_all_calls_that_were_sent_as_one_are_one_of_the_slot() -> None:
    """as for creations of several callers: the script replies with an error for each."""
    async with client_of(f"*2\r\n{MOVING}{MOVING}", "*2\r\n+one\r\n+two\r\n") as client:
        assert await client.execute_many([("GET", "x")]) == [[b"one", b"two"]]
