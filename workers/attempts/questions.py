"""Questions of one attempt: put to the store, and waited for.

The journal knows the keys, so an attempt after a crash meets its own earlier questions, with the answers they
already have.
"""

import asyncio
from contextlib import suppress
from typing import Any

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.claims import ClaimStore, Question
from taskmill.store.connection.retry import until_available
from taskmill.workers.attempts.active import ActiveTask
from taskmill.workers.attempts.journal import Journal
from taskmill.workers.attempts.limits import AttemptLimits

__all__ = ["Questions"]

_LOOK_AGAIN = 5.0
"""Seconds after which a waiting question looks by itself, should a signal have been missed."""


class Questions:
    """The asker of one attempt."""

    def __init__(self, store: ClaimStore, task: ActiveTask, standing: AttemptLimits, journal: Journal) -> None:
        self._store = store
        self._task = task
        self._standing = standing
        self._journal = journal

    async def __call__(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all at once and wait for all the answers, in the same order.

        Raises:
            FenceLost: the task is no longer this attempt's.
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        questions = [self._journal.question(request) for request in requests]
        await self._journal.save()
        seen = self._task.stirs  # read before asking: an answer may come before the reply is here
        answers = await self._put(questions)
        if None in answers:
            with self._standing.waiting():
                await self._wait(questions, answers, seen)
            await self._standing.go_on()
        return [answer for answer in answers if answer is not None]

    async def _wait(self, questions: list[Question], answers: list[dict[str, Any] | None], seen: int) -> None:
        while missing := [at for at, answer in enumerate(answers) if answer is None]:
            await self._stirred(seen)
            seen = self._task.stirs
            if self._task.stopped.done():
                raise asyncio.CancelledError  # it may be a thread that asks, and nothing else would end that
            with suppress(StoreUnavailable):
                found = await self._store.answers(self._task.id, [questions[at].key for at in missing])
                for at, answer in zip(missing, found, strict=True):
                    answers[at] = answer

    async def _put(self, questions: list[Question]) -> list[dict[str, Any] | None]:
        return await until_available(lambda: self._store.ask(self._task.id, self._task.fence, questions))

    async def _stirred(self, seen: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN):
                await self._task.stirred_since(seen)
