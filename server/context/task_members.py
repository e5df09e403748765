"""What a tool knows of its task and can have it do, by whatever object: `Context`, or the `Task` of FastMCP's tools.

Questions and progress are not here: each framework has its own ways for them.
"""

from collections.abc import AsyncIterable, Callable
from os import PathLike
from typing import Any

from mcp_types import ResourceLink

from taskmill.engine.context import CallerStatePort, StateScope, TaskContext
from taskmill.engine.errors import NotInTask
from taskmill.engine.steps import as_json, current_effect_key, not_inside, run_step
from taskmill.server.context.attachments import attach

__all__ = ["TaskMembers"]


class TaskMembers:
    """Facts and verbs of one attempt. Outside of a task its ids are None, and a step just runs."""

    _task: TaskContext | None
    """The attempt, None where there is no task."""

    @property
    def idempotency_key(self) -> str | None:
        """The same for every attempt of the task: give it to outside systems so that an effect counts once.

        While a model's call of a function runs (`sample(tools=...)`), the key of that call.
        """
        return (current_effect_key() or self._task.task_id) if self._task else None

    @property
    def attempt(self) -> int:
        """1 for the first start, also in a foreground call."""
        return self._task.attempt if self._task else 1

    @property
    def fence(self) -> int | None:
        """Rises with every attempt: an outside system that remembers the highest can refuse older ones."""
        return self._task.fence if self._task else None

    @property
    def cancelled(self) -> bool:
        """True once the tool should stop: a plain `def` tool has to read it, an async one is cancelled."""
        return self._task.cancelled if self._task else False

    async def emit(self, chunk: Any) -> None:
        """Put out a piece of the result - text, or any JSON value - that can be read while the task runs.

        It is stored when this returns. In a foreground call no one could read it, so it is dropped.

        Raises:
            ChunkRefused: too large, or not JSON.
            AttemptEnded: the tool has already returned.
        """
        if self._task is not None:
            await self._task.emit(chunk)

    async def attach(
        self,
        source: str | PathLike[str] | AsyncIterable[bytes],
        *,
        name: str | None = None,
        mime_type: str | None = None,
    ) -> ResourceLink:
        """Keep a file, or a stream of bytes, for as long as the task is kept; return the link, or put it in a result.

        `name` defaults to the path's last part, `mime_type` to what the name suggests. Any size is allowed.

        Raises:
            NotInTask: the tool was called in the foreground.
            AttemptEnded: the tool has already returned.
            ArtifactTooLarge: more bytes than the installation keeps.
            ArtifactsUnavailable: the directory or bucket cannot be written.
        """
        if self._task is None:
            raise NotInTask("attach works in a task: a foreground call has no one to keep the file.")
        return await attach(self._task, source, name, mime_type)

    async def save(self) -> None:
        """Save `state` now, if it has changed.

        Raises:
            NotSerializable, TooLargeToStore: it cannot be saved.
        """
        if self._task is not None:
            await self._task.journal.save()

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `call(*args, **kwargs)`, run once in a task: later attempts are given what it returned.

        An async function runs on the loop, a plain one in a thread. The result must be JSON, and is returned as it
        will be read back (a tuple is a list). A step that raises is not kept. In a foreground call it just runs.

        Raises:
            StepMismatch: the task's record has another step, or a question, at this point.
            StepMisused: it is called inside another step.
            NotSerializable, TooLargeToStore: the result cannot be kept.
        """
        if self._task is not None:
            return await self._task.journal.step(name, call, *args, **kwargs)
        not_inside(f"Step {name!r}")
        return as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")

    async def get_state(self, key: str, default: Any = None, *, scope: StateScope | None = None) -> Any:
        """What an earlier call, or this one, has put under `key` for the same session or principal, else `default`.

        `scope`: see `set_state`. A later attempt reads what is there then: where the tool depends on it, read it in a
        step.

        Raises:
            StateUnavailable: this caller has no such scope.
        """
        found = await self._caller_state().read(key, scope)
        return found[0] if found else default

    async def set_state(self, key: str, value: Any, *, scope: StateScope | None = None) -> None:
        """Keep a value for later calls of the same session (`scope="session"`) or user (`scope="principal"`).

        Without `scope` it is the session where the call has one, else the principal. `value` is JSON, None too; the
        last one that is set counts. It is stored when this returns, and is no step: a later attempt sets it again.

        Raises:
            StateUnavailable: this caller has no such scope, or its session has ended.
            NotSerializable, TooLargeToStore: the value cannot be kept, or there are too many.
        """
        state = self._caller_state()
        await state.write(key, as_json(value, what=f"The value of {key!r}"), scope)

    async def delete_state(self, key: str, *, scope: StateScope | None = None) -> None:
        """Forget the value under `key`, if there is one. `scope`: see `set_state`.

        Raises:
            StateUnavailable: this caller has no such scope.
        """
        await self._caller_state().delete(key, scope)

    def _caller_state(self) -> CallerStatePort:
        """The values of who calls."""
        raise NotImplementedError
