"""`taskmill worker`: one worker process. What it does with tasks is in `workers/`."""

import threading
from collections.abc import Mapping
from typing import Any

import structlog

from taskmill.cli.errors import unwrap_group
from taskmill.cli.loading import load_server, main_file
from taskmill.cli.processes.exit import exit_now
from taskmill.cli.processes.file_changes import SourceFiles
from taskmill.cli.processes.parent import Parent
from taskmill.cli.settings import redis_for, settings_for
from taskmill.cli.start_log import log_process, log_redis, log_worker_limits
from taskmill.engine.errors import OperatorError
from taskmill.server.tool_host import ToolHost
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.worker import Worker

__all__ = ["run_worker", "warn_of_unused_queues"]

log = structlog.get_logger()


def run_worker(
    file: str,
    parent: Parent,
    flags: Mapping[str, Any],
    *,
    source: str | None,
    idle_exit: float | None,
    exit_when_changed: bool,
) -> None:
    """Work until a signal stops it, until `idle_exit` seconds without a task, or until the server's files have changed.

    `source`: see `cli/source.py`.

    Started by a command for a server without task tools, it ends at once, and reports that it serves no queue.

    Raises:
        ServerLoadError, SettingsError, StoreUnavailable, RedisUnfit: at the start.
        OperatorError: there is nothing to run.
    """
    server = load_server(file)
    settings = settings_for(WorkerSettings, server, source, **flags)
    if idle_exit is not None:
        # It serves a call or a host, and goes when they do: what runs by itself needs a worker that stays.
        settings = settings.model_copy(update={"schedules": False})
    if settings.redis_url is None and not server.needs_store:
        if not parent.is_connected:
            raise OperatorError(f"{file} has no task tools for a worker to run. @mcp.tool(task=True) makes one.")
        parent.report_ready({"queue": ""})
        return
    warn_of_unused_queues(settings, server)
    outdated = SourceFiles.loaded(main_file(file)).wait_for_change if exit_when_changed else None
    with redis_for(settings.at_own_shard()) as ready, unwrap_group():

        def report() -> None:
            if not parent.is_connected:  # else the command that started it has logged it for its server
                log_process("worker", ready, queues=list(settings.queues), slots=settings.concurrency)
                log_redis(ready, embedded=settings.redis_url is None)
                log_worker_limits(settings)
            parent.report_ready({"queue": settings.queue})

        Worker(
            server,
            ready,
            idle_exit=idle_exit,
            outdated=outdated,
            on_ready=report,
            on_drain=parent.report_draining,
        ).run()
    _exit_if_threads_remain()


def warn_of_unused_queues(settings: WorkerSettings, server: ToolHost) -> None:
    """Warn of a requested queue that no tool uses: it may be misspelt, or have tasks of an older release."""
    used = {policy.queue for policy in server.policies().values()}
    if "queue" not in settings.model_fields_set or not used:
        return
    for name in settings.queues:
        if name not in used:
            log.warning("queue.unused", queue=name, queues_of_the_tools=sorted(used))


def _exit_if_threads_remain() -> None:
    """End this process now if threads of sync tools still run: the interpreter would wait for them."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(not thread.daemon for thread in threads):
        exit_now()
