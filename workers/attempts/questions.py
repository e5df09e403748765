"""The questions of one attempt: stored, then waited for.

The journal knows their keys, so an attempt after a crash finds the questions of the earlier attempt, with the answers
that they already have.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.claims import ClaimStore, Question
from taskmill.store.connection.retry import until_available
from taskmill.workers.attempts.active import ActiveTask
from taskmill.workers.attempts.journal import Journal
from taskmill.workers.attempts.limits import AttemptLimits

__all__ = ["Questions"]

_CHECK_EVERY = 5.0
"""Seconds after which a waiting question checks for its answer without a signal, because one may have been missed."""


class Questions:
    """The `QuestionPort` of one attempt."""

    def __init__(
        self,
        store: ClaimStore,
        task: ActiveTask,
        limits: AttemptLimits,
        journal: Journal,
        on_asked: Callable[[str, int], None] | None = None,
    ) -> None:
        """`on_asked`: called with the tool and the number of questions that have no answer yet."""
        self._store = store
        self._task = task
        self._limits = limits
        self._journal = journal
        self._on_asked = on_asked

    async def __call__(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all at once and wait for all the answers; returns them in the same order.

        Raises:
            FenceLost: the task is no longer this attempt's.
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        questions = [self._journal.question(request) for request in requests]
        await self._journal.save()
        seen = self._task.wake_count  # read before asking: an answer may arrive before the reply does
        answers = await self._store_questions(questions)
        if None in answers:
            if self._on_asked is not None:
                self._on_asked(self._task.tool, answers.count(None))
            with self._limits.question_open():
                await self._wait(questions, answers, seen)
            await self._limits.resume()
        return [answer for answer in answers if answer is not None]

    async def _wait(self, questions: list[Question], answers: list[dict[str, Any] | None], seen: int) -> None:
        while missing := [at for at, answer in enumerate(answers) if answer is None]:
            await self._woken(seen)
            seen = self._task.wake_count
            if self._task.stopped.done():
                raise asyncio.CancelledError  # the tool may ask from a thread, and nothing else would end that
            with suppress(StoreUnavailable):
                found = await self._store.answers(self._task.id, [questions[at].key for at in missing])
                for at, answer in zip(missing, found, strict=True):
                    answers[at] = answer

    async def _store_questions(self, questions: list[Question]) -> list[dict[str, Any] | None]:
        return await until_available(lambda: self._store.ask(self._task.id, self._task.fence, questions))

    async def _woken(self, seen: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_EVERY):
                await self._task.woken_since(seen)
