"""What a test sees of a deployment: its Redis, its worker processes, its tasks, and what its tools noted.

Tasks are created and followed through the store, as a server would; workers are processes of their own.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from redis.asyncio import Redis

from taskmill.engine.events import Event
from taskmill.engine.principal import ANONYMOUS, new_task_id
from taskmill.engine.record import NewTask, TaskRecord, TaskView
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.invariants import broken_promises, read_redis
from tests.support.waiting import eventually_async

__all__ = ["Deployment", "Note", "WorkerForks", "WorkerProcess"]

HERE = Path(__file__).parent
T = TypeVar("T")


class WorkerForks:
    """The process that forks workers; see `worker_forks.py`."""

    def __enter__(self) -> Self:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TASKMILL_")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker_forks.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def fork_worker(self, log: Path, order: dict[str, Any]) -> int:
        """Start a worker as ordered; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "log": str(log)}).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class WorkerProcess:
    """One worker process, for a test to signal."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log_file = log

    @property
    def code(self) -> int | None:
        """Exit code, minus the signal that ended it, None while it lives."""
        told = Path(f"{self.log_file}.exit")
        return int(told.read_text()) if told.exists() else None

    def log(self) -> str:
        """What it wrote."""
        return self.log_file.read_text()

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines with this event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if line["event"] == event]

    def send(self, number: signal.Signals) -> None:
        """Send a signal; it must be alive."""
        assert self.code is None, f"it has ended with {self.code}:\n{self.log()}"
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it the hard way; returns when it is gone."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def ended(self, *, within: float = 40) -> int:
        """Wait for its end; the exit code."""
        code = await eventually_async(lambda: self.code, lambda code: code is not None, within=within)
        assert code is not None
        return code


@dataclass(frozen=True)
class Note:
    """One line of a journal."""

    what: str
    task_id: str
    attempt: int
    fence: int
    pid: int
    at: float
    """Monotonic seconds."""


class Deployment:
    """One Redis, its workers and its tasks.

    A lease is three minutes, so that a worker that a busy machine holds up does not lose its task. A test in which a
    worker dies asks for the fixture `short_lease`, or gives its workers one.
    """

    def __init__(self, redis: Redis, url: str, folder: Path, worker_forks: WorkerForks) -> None:
        self.redis = redis
        self.settings: dict[str, Any] = {"redis_url": url, "lease": 180.0, "grace": 0.0}
        """What every worker gets unless it is started with something else."""
        self.store = RedisTaskStore(redis, StoreSettings(redis_url=url))
        self.keys = self.store.keys
        self.folder = folder
        self.journal = folder / "journal"
        self.journal.touch()
        self.workers: list[WorkerProcess] = []
        self._worker_forks = worker_forks

    async def worker(
        self,
        *,
        stock: bool = False,
        without: tuple[str, ...] = (),
        idle_exit: float | None = None,
        env: dict[str, str] | None = None,
        server: str | None = None,
        source: str | None = None,
        preload: Sequence[str] = (),
        ready: bool = True,
        **settings: Any,
    ) -> WorkerProcess:
        """Start a worker; returns when it works."""
        log = self.folder / f"worker-{len(self.workers) + 1}.log"
        given = {key: value for key, value in {**self.settings, **settings}.items() if value is not None}
        order = {"settings": given, "stock": stock, "without": without, "idle_exit": idle_exit, "env": env or {}}
        order |= {"server": server, "source": source, "preload": list(preload)}
        worker = WorkerProcess(self._worker_forks.fork_worker(log, order), log)
        self.workers.append(worker)
        if ready:
            (started,) = await eventually_async(lambda: log.exists() and worker.said("worker.started"))
            await self.listening(started["worker"])
        return worker

    async def listening(self, name: str) -> None:
        """Wait until a worker hears its signals: before that, it learns of cancels and answers only in the end."""
        channel = self.keys.signal(name)
        await eventually_async(lambda: self.redis.pubsub_numsub(channel), lambda reply: reply[0][1] > 0)

    def gate(self, name: str = "gate") -> Path:
        """A file for which tools wait; `touch` opens it."""
        return self.folder / name

    async def create(self, tool: str, **arguments: Any) -> str:
        """Create a task; its id. Tools that note things get the journal."""
        return (await self.store.create(self.task(tool, **arguments))).record.id

    async def create_noted(self, tool: str, *gates: Path, **arguments: Any) -> str:
        """Create a task of a tool that takes `journal`, and `gates` if there are some."""
        if gates:
            arguments["gates"] = [str(gate) for gate in gates]
        return await self.create(tool, journal=str(self.journal), **arguments)

    def task(self, tool: str, *, queue: str = "default", principal: str = ANONYMOUS, **arguments: Any) -> NewTask:
        """A task that is not stored yet; its client can ask its user."""
        task_id = new_task_id()
        payload = {"arguments": arguments, "client": {"capabilities": {"elicitation": {}}}}
        return NewTask(
            id=task_id,
            tool=tool,
            principal=principal,
            payload=self.store.pack(task_id, payload, tool=tool, principal=principal),
            queue=queue,
        )

    async def read(self, task_id: str) -> TaskView:
        """The task as it is now."""
        return await self.store.read(task_id, OPERATOR)

    async def record(self, task_id: str) -> TaskRecord:
        """The record as it is now."""
        return (await self.read(task_id)).record

    async def until(self, task_id: str, *statuses: str, within: float = 40) -> TaskView:
        """Wait until the task is in one of the states."""
        return await eventually_async(
            lambda: self.read(task_id), lambda view: view.record.status.value in statuses, within=within
        )

    async def done(self, task_id: str, *, within: float = 40) -> TaskView:
        """Wait until the task has ended."""
        return await self.until(task_id, "completed", "failed", "cancelled", within=within)

    async def moves(self, task_id: str) -> list[str]:
        """The words of its history, without progress."""
        return [event.move.value for event in await self.events(task_id) if event.move.value != "progress"]

    async def events(self, task_id: str) -> list[Event]:
        """Its history."""
        return await self.store.history(task_id)

    def notes(self, what: str, task_id: str | None = None) -> list[Note]:
        """What tools noted, oldest first."""
        # The last line may still be on its way.
        whole = self.journal.read_text().rpartition("\n")[0]
        notes = [Note(*json.loads(line)) for line in whole.splitlines()]
        return [note for note in notes if note.what == what and task_id in (None, note.task_id)]

    async def noted(self, what: str, task_id: str | None = None, *, times: int = 1, within: float = 40) -> Note:
        """Wait until tools have noted something so often; the last of these notes."""
        notes = await eventually_async(
            lambda: self.notes(what, task_id), lambda notes: len(notes) >= times, within=within
        )
        return notes[times - 1]

    async def end(self) -> None:
        """Kill every worker, so that nothing changes any more."""
        for worker in self.workers:
            if worker.code is None:
                os.kill(worker.pid, signal.SIGKILL)
        for worker in self.workers:
            await worker.ended()

    async def check(self) -> None:
        """What must be true whatever happened: and nothing in a log that nobody meant to be there."""
        # A stock worker's own health line; arq takes it away only when it ends properly.
        for queue in ("default", "other"):
            await self.redis.delete(self.keys.queue(queue) + ":health-check")
        assert broken_promises(await read_redis(self.redis, self.settings.get("prefix", "taskmill"))) == []
        for worker in self.workers:
            for surprise in ("was never retrieved", "Exception in callback", "Exception in thread"):
                assert surprise not in worker.log(), worker.log()
