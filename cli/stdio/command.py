"""`taskmill stdio`: one server for one host, over standard input and output. Workers that outlive it run its tasks.

The SDK handles the protocol, in the revision that the host starts with. Tasks continue even if the host kills this
process.
"""

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import structlog

from taskmill.adapters.remote.target import environment_digest, is_remote
from taskmill.cli.errors import unwrap_group
from taskmill.cli.loading import file_or_module, load_server
from taskmill.cli.logs import LogLevel
from taskmill.cli.processes.exit import exit_now
from taskmill.cli.settings import needs_embedded, redis_for, settings_for
from taskmill.cli.start_log import log_process, log_redis
from taskmill.cli.stdio.answer_recorder import AnswerRecorder
from taskmill.cli.stdio.early_start import HostConnection
from taskmill.cli.stdio.on_demand_worker import OnDemandWorker, WorkerNeed
from taskmill.cli.stdio.pipes import ProtocolInput, ProtocolOutput
from taskmill.cli.stdio.state_folder import place_of_remote, state_folder
from taskmill.engine.errors import SettingsError
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.store.formats.queue_names import source_of
from taskmill.store.settings import StoreSettings
from taskmill.workers.process_signals import handle_signal

__all__ = ["serve_stdio"]

log = structlog.get_logger()

_SHUTDOWN_TIMEOUT = 1.5
"""Seconds that the server has to stop: hosts kill it after two."""
_CALL_USAGE = "taskmill call FILE TOOL key=value ..."


def serve_stdio(
    target: str, host: HostConnection, redis_url: str | None, level: LogLevel, loaded: ToolHost | None = None
) -> NoReturn:
    """Serve until the host closes its side or a signal arrives. Ends this process.

    `loaded`: the server object that `target` names, if this process has it already.

    Raises:
        ServerLoadError, SettingsError, StoreUnavailable, RedisUnfit, NoRedisServer, OperatorError: at the start.
    """
    # In the environment, so that the author's own settings and every child process use the same directory.
    place = _server_place(target)
    if (folder := os.environ.get("TASKMILL_HOME") or state_folder(place)) is None:
        raise SettingsError("This user has no home directory: set TASKMILL_HOME to a directory for the data.")
    os.environ["TASKMILL_HOME"] = folder
    server = load_server(target) if loaded is None else loaded
    # A command gets what its host sets in the environment, so a worker of another environment is another worker.
    source = source_of(f"{place} {environment_digest()}" if is_remote(target) else place)
    settings = settings_for(ServerSettings, server, source, redis_url=redis_url)
    redis_flags = () if redis_url is None else ("--redis-url", redis_url)
    worker_flags = ["--source", source, "--log-level", level.value, *redis_flags]
    with redis_for(settings, server) as ready, unwrap_group():
        server.store_settings = ready
        needs = list(_worker_needs(server, target, worker_flags))
        asyncio.run(_serve(server, host, needs, ready, is_embedded=needs_embedded(settings, server)))
    exit_now()


def _server_place(target: str) -> str:
    """Where the file or module of `target` is, the same for each spelling of the path; of another server, its name."""
    if is_remote(target):
        return place_of_remote(target)
    location, is_module = file_or_module(target)
    if not is_module:
        return str(Path(location).resolve())
    top, _, rest = location.partition(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec is not None else None
    return str(Path(next(iter(folders or ()), top)).resolve() / rest)


def _worker_needs(server: ToolHost, target: str, worker_flags: list[str]) -> Iterator[WorkerNeed]:
    policies = server.policies()
    for queue in sorted({policy.queue for policy in policies.values()}):
        tools = frozenset(name for name, policy in policies.items() if policy.queue == queue)
        yield WorkerNeed(target, queue, tools, worker_flags)


async def _serve(
    server: ToolHost, host: HostConnection, needs: list[WorkerNeed], settings: StoreSettings, *, is_embedded: bool
) -> None:
    workers = [OnDemandWorker(need, settings) for need in needs]
    ended = asyncio.Event()

    def wake_workers() -> None:
        for worker in workers:
            worker.wake()

    recorder = AnswerRecorder(host, server)
    protocol_input = ProtocolInput(host.lines, wake_workers, ended.set)
    protocol_output = ProtocolOutput(host.pipes.output_descriptor, recorder, protocol_input.end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        handle_signal(number, protocol_input.end_soon)
    if os.isatty(host.pipes.input_descriptor):
        print(
            f"taskmill: This command is for hosts and reads JSON-RPC. To call a tool yourself: {_CALL_USAGE}",
            file=sys.stderr,
        )
    log_process("stdio server", settings)
    log_redis(settings, embedded=is_embedded)
    log.info("stdio.started", data=str(settings.home), queues=[need.queue for need in needs])
    serving = asyncio.create_task(server.run_stdio_async(protocol_input, protocol_output))
    watching = [worker.open() for worker in workers]
    waiting = [serving, *watching, asyncio.create_task(ended.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if ended.is_set():
        await asyncio.wait([serving], timeout=_SHUTDOWN_TIMEOUT)
    for task in (serving, *watching):
        if task.done():
            task.result()
    closing = asyncio.gather(recorder.close(), *(worker.close() for worker in workers))
    await asyncio.wait([closing], timeout=_SHUTDOWN_TIMEOUT)
    # In the loop: its end would wait for what has not ended by now.
    exit_now()
