"""What one attempt at a task has: its identity, its fence, and ports for progress, questions, output and its journal.

Free of any protocol and of Redis: a worker passes the ports in. The author's `Context` in `server/` wraps this.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Generator
from math import isfinite
from time import monotonic
from typing import Any, Literal, Protocol

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import AttemptEnded, NotInTask
from taskmill.engine.events import LogMessage
from taskmill.engine.record import Progress

__all__ = [
    "CallerStatePort",
    "JournalPort",
    "ListChangePort",
    "LogPort",
    "OutputPort",
    "ProgressPort",
    "QuestionPort",
    "StateScope",
    "TaskContext",
]

_YIELD_EVERY = 0.01
"""Seconds after which an awaited progress report yields to the event loop."""
_LONGEST_MESSAGE = 1000
StateScope = Literal["session", "principal"]
"""Whose a value is that a tool keeps for later calls."""


class ProgressPort(Protocol):
    """Receives the progress of a task; must be callable from any thread and return at once."""

    def __call__(self, progress: Progress) -> None: ...


class LogPort(Protocol):
    """Receives what a tool logs for its caller; returns at once."""

    def __call__(self, message: LogMessage) -> None: ...


class ListChangePort(Protocol):
    """Receives which lists of the tool's server have changed; returns at once."""

    def __call__(self, kinds: Collection[str]) -> None: ...


class QuestionPort(Protocol):
    """Sends questions to the client and waits for the answers."""

    async def __call__(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all of `requests` (protocol requests as JSON) at once; returns the answers in the same order."""


class OutputPort(Protocol):
    """Stores what a tool produces beside its result."""

    inline_limit: int
    """Bytes: parts of a larger result become artifacts."""

    async def emit(self, chunk: Any) -> None:
        """Add a chunk to the task's output; it is stored when this returns."""

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Store a file for as long as the task is kept; it can be read when this returns."""


class JournalPort(Protocol):
    """Records what a task has done, for its later attempts."""

    state: dict[str, Any]

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The recorded result of this step; or run it, and record its result before it is returned."""

    async def save(self) -> None:
        """Save the state, if it has changed."""


class CallerStatePort(Protocol):
    """The values of one caller. `scope`: whose they are; None = the session's where there is one, else the principal's.

    Every method raises `StateUnavailable` where this caller has no such scope.
    """

    async def read(self, name: str, scope: StateScope | None) -> list[Any]:
        """The value, as the only item; empty where there is none."""

    async def write(self, name: str, value: Any, scope: StateScope | None) -> None:
        """Keep a value, which is JSON; it is stored when this returns.

        Raises:
            TooLargeToStore: the value is too large, or the caller has too many of them.
            NotSerializable: it holds text that is no Unicode.
        """

    async def delete(self, name: str, scope: StateScope | None) -> None:
        """Forget a value, if there is one."""


def _finite(value: float | None) -> float | None:
    try:
        return None if value is None or not isfinite(value) else float(value)
    except OverflowError:  # a whole number beyond every float
        return None


def _presentable(message: str) -> str:
    """`message` as text that can be written as UTF-8, cut to a length that fits a status line."""
    text = message.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


class _Reported(Awaitable[None]):
    """A progress report that is already recorded. Awaiting it yields to the event loop from time to time."""

    __slots__ = ("_must_yield",)

    def __init__(self, must_yield: Callable[[], bool]) -> None:
        self._must_yield = must_yield

    def __await__(self) -> Generator[None, None, None]:
        if self._must_yield():
            yield


class TaskContext:
    """One attempt at one task, as the tool sees it."""

    def __init__(
        self,
        *,
        task_id: str,
        attempt: int,
        fence: int,
        principal: str,
        report: ProgressPort,
        ask: QuestionPort,
        output: OutputPort | None = None,
        journal: JournalPort | None = None,
        caller_state: CallerStatePort | None = None,
        log: LogPort | None = None,
        list_changes: ListChangePort | None = None,
    ) -> None:
        self.task_id = task_id
        """Also the idempotency key for calls to outside systems: the same for every attempt."""
        self.attempt = attempt
        """1 for the first start."""
        self.fence = fence
        """Rises with every attempt; pass it to outside systems so that they can refuse an older attempt."""
        self.principal = principal
        self._report = report
        self._ask = ask
        self._output = output
        self._journal = journal
        self._caller_state = caller_state
        self._log = log
        self._list_changes = list_changes
        self._cancelled = False
        self._is_last = False
        self._ended = False
        self._yielded_at = monotonic()
        self._reported = _Reported(self._must_yield)

    @property
    def cancelled(self) -> bool:
        """True once this attempt should stop: the task was cancelled, timed out or given to another worker."""
        return self._cancelled

    @property
    def is_last(self) -> bool:
        """True once the task itself ends with this attempt, cancelled or out of time: no other one will follow."""
        return self._is_last

    def cancel(self, *, is_last: bool = False) -> None:
        """Tell the tool to stop; called by the worker, from its event loop. `is_last`: see there."""
        self._cancelled = True
        self._is_last = self._is_last or is_last

    def report_progress(
        self, done: float | None = None, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Report how far the work is. Takes effect at once and never waits; awaiting what it returns is optional.

        A plain `def` tool in its thread calls it without `await`. Values are coalesced: the last one wins. Numbers
        that are not finite count as None.

        Raises:
            TypeError, ValueError: `done` or `total` is not a number.
        """
        self._report(Progress(_finite(done), _finite(total), None if message is None else _presentable(str(message))))
        return self._reported

    def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Log for the caller, as far as its client can be sent log messages; call it from the event loop.

        More than a client could read is left out, and the client gets their number.
        """
        if self._log is not None and not self._ended:
            self._log(LogMessage(level, data, logger))

    def report_list_changes(self, kinds: Collection[str]) -> None:
        """Have the server's clients be sent that these lists have changed: `tools`, `resources`, `prompts`.

        Call it from the event loop; also after the attempt.
        """
        if self._list_changes is not None:
            self._list_changes(kinds)

    @property
    def inline_limit(self) -> int | None:
        """Bytes: parts of a larger result become artifacts; None = artifacts cannot be stored here."""
        return self._output.inline_limit if self._output else None

    def end(self) -> None:
        """The tool has returned or was abandoned: from now on it can store nothing."""
        self._ended = True

    async def emit(self, chunk: Any) -> None:
        """Emit a piece of the result - text or JSON - that can be read while the task runs.

        Raises:
            AttemptEnded: the attempt has ended.
            ChunkRefused: too large, or not JSON.
        """
        await self._open_output().emit(chunk)

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Store a file for as long as the task is kept.

        Raises:
            AttemptEnded: the attempt has ended.
            ArtifactTooLarge: more bytes than this installation stores.
        """
        return await self._open_output().attach(content, name=name, mime_type=mime_type)

    @property
    def journal(self) -> JournalPort:
        """Steps and state.

        Raises:
            NotInTask: they cannot be recorded here.
        """
        if self._journal is None:
            raise NotInTask("Steps and state work in a task only.")
        return self._journal

    @property
    def caller_state(self) -> CallerStatePort:
        """Values kept for the caller's session or principal.

        Raises:
            AttemptEnded: the attempt has ended.
            NotInTask: they cannot be kept here.
        """
        if self._ended:
            raise AttemptEnded(task_id=self.task_id)
        if self._caller_state is None:
            raise NotInTask("Nothing here keeps values for a caller.", task_id=self.task_id)
        return self._caller_state

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send questions to the client and wait for all the answers, in the order of `requests`.

        Raises:
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        return await self._ask(requests)

    def _open_output(self) -> OutputPort:
        if self._ended:
            raise AttemptEnded(task_id=self.task_id)
        if self._output is None:
            raise NotInTask("Nothing here keeps output or artifacts.", task_id=self.task_id)
        return self._output

    def _must_yield(self) -> bool:
        now = monotonic()
        if now - self._yielded_at < _YIELD_EVERY:
            return False
        self._yielded_at = now
        return True
