"""`taskmill stdio`: one server for one host, over standard input and output. Its tasks are run by workers that stay.

The SDK speaks, in the era that the host opens with. Whatever the host does to this process, tasks go on.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import structlog

from taskmill.cli.errors import only_cause
from taskmill.cli.loading import load_server
from taskmill.cli.logs import LogLevel
from taskmill.cli.processes.exit import exit_now
from taskmill.cli.settings import redis_for, settings_for
from taskmill.cli.stdio.on_demand_worker import OnDemandWorker, WorkerNeed
from taskmill.cli.stdio.pipes import Pipes, ProtocolInput, ProtocolOutput
from taskmill.cli.stdio.state_folder import state_folder
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.store.settings import StoreSettings

__all__ = ["stdio"]

log = structlog.get_logger()

_FAREWELL = 1.5
"""Seconds that the server has for its own end: hosts lose their patience after two."""
_CALL = "taskmill call FILE TOOL key=value ..."


def stdio(target: str, pipes: Pipes, redis_url: str | None, level: LogLevel) -> NoReturn:
    """Serve until the host closes its side or a signal comes. Ends this process.

    Raises:
        ServerLoadError, SettingsError, StoreUnavailable, RedisUnfit, NoRedisServer, OperatorError: at the start.
    """
    # Until the server can be told, a signal is the end, and no reason for a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # In the environment, so that the author's own settings and every child mean the same place.
    os.environ.setdefault("TASKMILL_HOME", str(state_folder(target)))
    server = load_server(target)
    settings = settings_for(ServerSettings, server, redis_url=redis_url)
    words = ["--log-level", level.value, *(() if redis_url is None else ("--redis-url", redis_url))]
    with redis_for(settings) as ready, only_cause():
        server.store_settings = ready
        posts = list(_posts(server, target, words))
        asyncio.run(_converse(server, pipes, posts, ready))
    exit_now()


def _posts(server: ToolHost, target: str, words: list[str]) -> Iterator[WorkerNeed]:
    policies = server.policies()
    for queue in sorted({policy.queue for policy in policies.values()}):
        tools = frozenset(name for name, policy in policies.items() if policy.queue == queue)
        yield WorkerNeed(target, queue, tools, words)


async def _converse(server: ToolHost, pipes: Pipes, posts: list[WorkerNeed], settings: StoreSettings) -> None:
    standbys = [OnDemandWorker(post, settings) for post in posts]
    ended = asyncio.Event()

    def heard() -> None:
        for standby in standbys:
            standby.stir()

    listening = ProtocolInput(pipes.reading, heard, ended.set)
    talking = ProtocolOutput(pipes.writing, listening.end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, listening.end)
    if os.isatty(pipes.reading):
        print(f"taskmill: A host speaks here, in JSON-RPC. To call a tool yourself: {_CALL}", file=sys.stderr)
    log.info("stdio.started", data=str(settings.home), queues=[post.queue for post in posts])
    serving = asyncio.create_task(server.run_stdio_async(listening, talking))
    watches = [standby.open() for standby in standbys]
    waiting = [serving, *watches, asyncio.create_task(ended.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if ended.is_set():
        await asyncio.wait([serving], timeout=_FAREWELL)
    for task in (serving, *watches):
        if task.done():
            task.result()
    closing = asyncio.gather(*(standby.close() for standby in standbys))
    await asyncio.wait([closing], timeout=_FAREWELL)
    # Here: whatever has not ended by now would be waited for.
    exit_now()
