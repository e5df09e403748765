"""A worker that dies under a call of a server that is not ours: the call is made again only where that is known to be
safe."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from taskmill.testing import ClientKind
from taskmill.testing.clients import client_of
from tests.adapters.remote_servers import foreign_words
from tests.support.command_line import CommandLine
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@contextmanager
def deployment(cli: CommandLine, redis_url: str, *words: str) -> Iterator[str]:
    """A server, and two workers of which one gets the task; the address."""
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "foreign", "TASKMILL_LEASE": "3"}
    with ExitStack() as stack:
        url = stack.enter_context(cli.started("serve", "--port", "0", *words)).url()
        for _ in range(2):
            stack.enter_context(cli.started("worker", *words))
        yield url


def calls_of(cli: CommandLine, name: str) -> list[int]:
    file = cli.folder / f"{name}.calls"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def killed_under(cli: CommandLine, url: str, tool: str) -> tuple[str, bool, int]:
    """Call the tool, kill the worker that holds the call, and let it end: text, whether an error, how many calls."""
    async with client_of(ClientKind.TASKS_2026, url) as client:
        calling = asyncio.create_task(client.call(tool, name=tool))
        (server,) = await eventually_async(lambda: calls_of(cli, tool), lambda found: len(found) == 1, within=60)
        # The call's process is a child of the worker that holds it.
        os.kill(parent_of(server), signal.SIGKILL)
        (cli.folder / f"{tool}.gate").touch()
        record = await calling
    assert record.result is not None
    return record.text, record.result.is_error, len(calls_of(cli, tool))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_tool_that_changes_nothing_is_called_again(cli: CommandLine, redis_url: str) -> None:
    with deployment(cli, redis_url, "--", *foreign_words(cli.folder)) as url:
        assert await killed_under(cli, url, "read") == ("read is done", False, 2)


async def test_a_tool_that_may_have_taken_effect_fails_with_the_reason(cli: CommandLine, redis_url: str) -> None:
    with deployment(cli, redis_url, "--", *foreign_words(cli.folder)) as url:
        text, is_error, calls = await killed_under(cli, url, "write")
    assert "may have taken effect" in text
    assert "--repeat write" in text
    assert (is_error, calls) == (True, 1)


async def test_an_operator_allows_a_second_call(cli: CommandLine, redis_url: str) -> None:
    with deployment(cli, redis_url, "--repeat", "wri*", "--", *foreign_words(cli.folder)) as url:
        assert await killed_under(cli, url, "write") == ("write is done", False, 2)


async def test_the_command_ends_with_its_killed_worker(cli: CommandLine, redis_url: str) -> None:
    with deployment(cli, redis_url, "--", *foreign_words(cli.folder)) as url:
        async with client_of(ClientKind.TASKS_2026, url) as client:
            calling = asyncio.create_task(client.call("write", name="it"))
            (server,) = await eventually_async(lambda: calls_of(cli, "it"), lambda found: len(found) == 1, within=60)
            os.kill(parent_of(server), signal.SIGKILL)
            await eventually_async(lambda: Path(f"/proc/{server}").exists(), lambda there: not there, within=30)
            await calling
