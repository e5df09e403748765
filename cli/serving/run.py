"""`taskmill run`: Redis, one server and its workers with one command, until a signal stops it."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from taskmill.cli.errors import CommandFailed, print_failure
from taskmill.cli.processes.file_changes import SourceFiles
from taskmill.cli.processes.prepared import PreparedProcess
from taskmill.cli.processes.supervisor import KeptRedis, ProcessPlan, Supervisor
from taskmill.cli.serving.listener import listening
from taskmill.cli.serving.ready_line import ready_line
from taskmill.server.settings import ServerSettings
from taskmill.workers.process_signals import handle_signal

__all__ = ["check_address", "run_until_stopped"]

_EXPLAIN_AFTER = 1.0
"""Seconds of stopping after which a person learns how to end it sooner."""

log = structlog.get_logger()


async def run_until_stopped(
    plan: ProcessPlan, prepared: Sequence[PreparedProcess] = (), *, reload: bool = False
) -> None:
    """Keep all running; returns after SIGTERM, SIGINT or SIGHUP, when all have stopped in order.

    `prepared`: processes that become the server and the workers.
    `reload`: start the new code when the author's files change; without it, a change is only reported.

    Raises:
        CommandFailed: the server or a worker could not start.
        NoRedisServer, SettingsError, OperatorError: the embedded Redis cannot start.
    """
    signals = _StopSignals()
    async with KeptRedis() as redis:
        supervisor = Supervisor(plan, redis, prepared)
        starting = asyncio.create_task(supervisor.start())
        if not await signals.ends_before_first(starting):
            starting.cancel()
            await asyncio.wait([starting])
            return
        print(ready_line(starting.result()), flush=True)
        sources = SourceFiles.from_json(starting.result()["sources"])
        watching = asyncio.create_task(_reload(supervisor, sources) if reload else _report_changes(sources))
        await signals.first.wait()
        watching.cancel()
        await asyncio.wait([watching])
        log.info("run.stopping")
        stopping = asyncio.create_task(supervisor.stop())
        explaining = asyncio.get_running_loop().call_later(_EXPLAIN_AFTER, _explain_wait, plan.grace)
        stopping.add_done_callback(lambda _: explaining.cancel())
        if await signals.second_before_end_of(stopping):
            supervisor.release_tasks()
        await stopping
    log.info("run.stopped")


def check_address(settings: ServerSettings) -> None:
    """Refuse an address that the server could not listen on, before anything is started for it.

    Raises:
        OperatorError: it cannot be used.
    """
    # Only where it was given: else the author's own settings may choose another port.
    if settings.port and "port" in settings.model_fields_set:
        with listening(settings.host, settings.port):
            pass


def _explain_wait(grace: float) -> None:
    print(
        f"taskmill: Stopping: active tasks may take {grace:g} more seconds. Press Ctrl-C again to return them to their "
        "queue now.",
        file=sys.stderr,
        flush=True,
    )


async def _report_changes(sources: SourceFiles) -> None:
    """Warn when the processes no longer run what the files say."""
    while True:
        changed = await sources.wait_for_change()
        path = changed[0]
        old, sources = sources, sources.now()
        log.warning(
            "source.changed",
            file=str(path),
            running=_version(old, path),
            on_disk=_version(sources, path),
            hint="the running version goes on: stop and start again, or use `taskmill run --reload`",
        )


async def _reload(supervisor: Supervisor, sources: SourceFiles) -> None:
    """Start the new code at each change. Code that cannot be loaded is reported, and the old code goes on."""
    while True:
        changed = await sources.wait_for_change(_report_missing)
        log.info("reload.started", files=[str(path) for path in changed])
        # As they are before the new code is loaded: a later change is then noticed. With new files, since the
        # correction of what cannot be loaded may be in one.
        sources = sources.now(with_new_files=True)
        try:
            facts = await supervisor.reload()
        except CommandFailed as exc:
            print_failure(exc.failure)
            log.error("reload.failed", why=exc.failure.message.splitlines()[-1], hint="the old code goes on")
        else:
            loaded = SourceFiles.from_json(facts["sources"]).stamps
            sources = SourceFiles({path: sources.stamps.get(path, stamp) for path, stamp in loaded.items()})
            print(ready_line(facts), flush=True)


def _report_missing(path: Path) -> None:
    log.warning("source.missing", file=str(path), hint="the running version goes on, until the file is there again")


def _version(sources: SourceFiles, path: Path) -> str:
    """The version of a file: when it was written."""
    stamp = sources.stamps[path]
    if stamp is None:
        return "missing"
    return f"of {datetime.fromtimestamp(stamp[0] / 1e9, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}"


class _StopSignals:
    """The signals to stop. The first one stops in order, the second one makes workers release their tasks."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            handle_signal(number, self._receive)

    def _receive(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    async def ends_before_first(self, task: asyncio.Task[object]) -> bool:
        """Wait for `task`; False if the first signal came earlier."""
        return not await _event_before(self.first, task)

    async def second_before_end_of(self, task: asyncio.Task[None]) -> bool:
        """Wait for `task`; True if the second signal came earlier."""
        return await _event_before(self.second, task)


async def _event_before(event: asyncio.Event, task: "asyncio.Task[object] | asyncio.Task[None]") -> bool:
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return not task.done()
