"""Steps, state and questions of one attempt: read back from what earlier attempts recorded, or new and recorded."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.replay import Entry, Replay
from taskmill.engine.steps import as_json, not_inside, run_step
from taskmill.store.claims.claims import Claimed, Question
from taskmill.store.claims.journal import JournalStore, Recorded
from taskmill.store.connection.retry import until_available
from taskmill.workers.attempts.active import ActiveTask
from taskmill.workers.attempts.limits import AttemptLimits

__all__ = ["Journal"]

T = TypeVar("T")
_OUTAGE_PAUSE = 0.5
_NO_STATE = "{}"
_UNKNOWN_STATE = ""
"""Whether the last state was written is not known: the next save writes it."""


class Journal:
    """Of one attempt. Call `open` before the tool starts."""

    def __init__(self, store: JournalStore, claimed: Claimed, task: ActiveTask, limits: AttemptLimits) -> None:
        self._store = store
        self._claimed = claimed
        self._task = task
        self._limits = limits
        self._replay: Replay | None = None
        self._values: dict[str, Any] = {}
        self._used = 0
        self._saved = _NO_STATE
        self.state: dict[str, Any] = {}
        """The tool's own; saved with each step and question."""

    async def open(self) -> None:
        """Read what earlier attempts recorded; or nothing, when the attempt is to stop and the store is unavailable.

        Raises:
            FenceLost: the task is no longer this attempt's.
            SealBroken: it cannot be read by this worker.
        """
        if self._claimed.attempt <= 1:
            return
        recorded = Recorded()
        try:
            recorded = await self._persist(lambda: self._store.read(self._claimed.id, self._claimed.fence))
        except asyncio.CancelledError:
            if not self._task.stopped.done():
                raise
        self._replay = Replay(recorded.entries)
        self._values, self.state, self._used = recorded.values, recorded.state, recorded.size
        self._saved = _as_text(self.state)

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The recorded result of this step; or run it, and record its result before it is returned.

        It is not begun while the lease may have expired: the next attempt would run it too.

        Raises:
            StepMismatch, StepMisused, NotKeepable, TooLargeToKeep: the author's fault; the message names the step.
            FenceLost: the task is no longer this attempt's.
        """
        not_inside(f"Step {name!r}")
        entry, known = self._recorded.step(name, _digest([args, kwargs]), concurrent=self._is_concurrent())
        if known:
            return self._values[entry.mark]
        with self._limits.step_running():
            await self._limits.resume()
            await self._task.until_lease_is_sure()
            value = as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")
            await self._record(entry, value)
            return value

    @property
    def _recorded(self) -> Replay:
        if self._replay is None:
            self._replay = Replay()
        return self._replay

    def question(self, request: dict[str, Any]) -> Question:
        """The question with the key it has, or will have.

        Raises:
            QuestionMismatch, StepMismatch, StepMisused: the author's fault.
        """
        not_inside("A question")
        digest = _digest(request)
        entry, _ = self._recorded.question(digest, concurrent=self._is_concurrent())
        return Question(entry.name, f"{entry.mark}.{digest}", request)

    async def save(self) -> None:
        """Save the state, if it has changed.

        Raises:
            NotKeepable, TooLargeToKeep: the author's fault.
            FenceLost: the task is no longer this attempt's.
        """
        packed = self._changed_state()
        if packed is not None:
            await self._persist(lambda: self._store.keep(self._claimed.id, self._claimed.fence, state=packed))

    async def _record(self, entry: Entry, value: Any) -> None:
        room = self._store.room - self._used
        packed = self._store.pack_step(self._claimed.id, entry, value, room=room)
        self._used += len(packed)
        steps, state = {entry.mark: packed}, self._changed_state()
        await self._persist(lambda: self._store.keep(self._claimed.id, self._claimed.fence, steps=steps, state=state))

    def _changed_state(self) -> bytes | None:
        state = as_json(self.state, what="The task's state")
        written = _as_text(state)
        if written == self._saved:
            return None
        packed = self._store.pack_state(self._claimed.id, state)
        self._saved = written
        return packed

    def _is_concurrent(self) -> bool:
        return asyncio.current_task() is not self._task.main_task

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do it, however long the store is unavailable."""
        stopped = self._task.stopped
        try:
            return await until_available(write, gives_up=lambda _: stopped.done(), longest_pause=_OUTAGE_PAUSE)
        except StoreUnavailable:
            self._saved = _UNKNOWN_STATE
            # The tool may run in a thread, and nothing else would end that.
            raise asyncio.CancelledError from None
        except BaseException:
            self._saved = _UNKNOWN_STATE  # a tool that is stopped may save once more
            raise


def _as_text(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


def _digest(value: Any) -> str:
    """Digest of a JSON value; what is not JSON counts by its type."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=lambda one: type(one).__qualname__)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
