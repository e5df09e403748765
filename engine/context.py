"""What a running task holds: its identity, its fence, and the two ways to speak - progress and questions.

Free of any protocol and of Redis: a worker passes in who listens. The author's `Context` in `server/` wraps this.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Generator
from math import isfinite
from time import monotonic
from typing import Any, Protocol

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import AfterEnd, NotInTask
from taskmill.engine.record import Progress

__all__ = ["Asker", "Listener", "OutputPort", "Recorder", "TaskContext"]

_YIELD_EVERY = 0.01
"""Seconds after which an awaited progress report lets the event loop breathe."""
_LONGEST_MESSAGE = 1000


class Listener(Protocol):
    """Takes progress of a task; must be callable from any thread and return at once."""

    def __call__(self, progress: Progress) -> None: ...


class Asker(Protocol):
    """Puts questions to the client and waits for the answers."""

    async def __call__(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all of `requests` (protocol requests as JSON) at once; the answers, in the same order."""


class OutputPort(Protocol):
    """Takes what a tool leaves beside its result."""

    inline_limit: int
    """Bytes of a result from which on its parts become artifacts."""

    async def emit(self, chunk: Any) -> None:
        """Add a chunk to the task's output; kept when this returns."""

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Keep a file for as long as the task is kept; readable when this returns."""


class Recorder(Protocol):
    """Keeps what a task has done, for its later attempts."""

    state: dict[str, Any]

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The recorded result of this step; or run it, and record its result before it is returned."""

    async def save(self) -> None:
        """Save the state, if it has changed."""


def _finite(value: float | None) -> float | None:
    try:
        return None if value is None or not isfinite(value) else float(value)
    except OverflowError:  # a whole number beyond every float
        return None


def _presentable(message: str) -> str:
    """`message` as text that can be written as UTF-8, cut to a length that a status line can bear."""
    text = message.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


class _Reported(Awaitable[None]):
    """A progress report that has already been taken; awaiting it now and then yields to the event loop."""

    __slots__ = ("_breathe",)

    def __init__(self, breathe: Callable[[], bool]) -> None:
        self._breathe = breathe

    def __await__(self) -> Generator[None, None, None]:
        if self._breathe():
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
        listen: Listener,
        ask: Asker,
        outlet: OutputPort | None = None,
        journal: Recorder | None = None,
    ) -> None:
        self.task_id = task_id
        """Also the idempotency key for effects outside: the same for every attempt."""
        self.attempt = attempt
        """1 for the first start."""
        self.fence = fence
        """Rises with every attempt; give it to outside systems so that they can refuse an older attempt."""
        self.principal = principal
        self._listen = listen
        self._ask = ask
        self._outlet = outlet
        self._journal = journal
        self._cancelled = False
        self._ended = False
        self._breathed = monotonic()
        self._reported = _Reported(self._must_breathe)

    @property
    def cancelled(self) -> bool:
        """True once this attempt should stop: the task was cancelled, timed out or given to another worker."""
        return self._cancelled

    def cancel(self) -> None:
        """Tell the tool to stop; called by the worker, from its event loop."""
        self._cancelled = True

    def report_progress(
        self, done: float | None = None, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Say how far the work is. Takes effect at once, never waits; awaiting the reply is optional.

        A plain `def` tool in its thread calls it without `await`. Values are coalesced: the last one wins. Numbers
        that are not finite count as not said.

        Raises:
            TypeError, ValueError: `done` or `total` is not a number.
        """
        self._listen(Progress(_finite(done), _finite(total), None if message is None else _presentable(str(message))))
        return self._reported

    @property
    def inline_limit(self) -> int | None:
        """Bytes of a result from which on its parts become artifacts; None = nothing keeps artifacts here."""
        return self._outlet.inline_limit if self._outlet else None

    def end(self) -> None:
        """The tool has returned or was given up: from now on it can leave nothing."""
        self._ended = True

    async def emit(self, chunk: Any) -> None:
        """Put out a piece of the result - text or JSON - that can be read while the task runs.

        Raises:
            AfterEnd: the attempt has ended.
            ChunkRefused: too large, or not JSON.
        """
        await self._open_outlet().emit(chunk)

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        """Keep a file for as long as the task is kept.

        Raises:
            AfterEnd: the attempt has ended.
            ArtifactTooLarge: more bytes than the installation keeps.
        """
        return await self._open_outlet().attach(content, name=name, mime_type=mime_type)

    @property
    def journal(self) -> Recorder:
        """Steps and state.

        Raises:
            NotInTask: nothing keeps them here.
        """
        if self._journal is None:
            raise NotInTask("Steps and state work in a task only.")
        return self._journal

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Put questions to the client and wait for all the answers, in the order of `requests`.

        Raises:
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        return await self._ask(requests)

    def _open_outlet(self) -> OutputPort:
        if self._ended:
            raise AfterEnd(task_id=self.task_id)
        if self._outlet is None:
            raise NotInTask("Nothing here keeps output or artifacts.", task_id=self.task_id)
        return self._outlet

    def _must_breathe(self) -> bool:
        now = monotonic()
        if now - self._breathed < _YIELD_EVERY:
            return False
        self._breathed = now
        return True
