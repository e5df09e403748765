"""Sends what ended and claims new tasks, in one batch of commands to Redis, and waits out Redis's outages.

`loop.py` decides when to send, and how much.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from random import uniform
from typing import Any

import structlog

from taskmill.engine.errors import OperatorError
from taskmill.store.claims.claims import Claims, Reserve
from taskmill.store.connection.retry import retrying
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.store.scripts import Call
from taskmill.workers.attempts.endings import Ending, Finish
from taskmill.workers.runtime import WorkerRuntime

__all__ = ["NO_TASKS", "Claimer"]

log = structlog.get_logger()
NO_TASKS = Claims([], None)
"""The reply of a claim that found no task, and none that becomes due."""
_SENDERS = 2
_OF_WAITS = _SENDERS
"""The number of the sender whose claims go with a wait for work."""

Reply = tuple[list[Any], Claims | None]


class Claimer:
    """Has a few senders, numbered from 0. Each sends one batch at a time, and repeats it until it is done."""

    def __init__(
        self, runtime: WorkerRuntime, *, gives_up: Callable[[int], bool], on_full: Callable[[Finish], None]
    ) -> None:
        """`gives_up`: whether to leave endings unsent after so many failures; the leases will expire.

        `on_full`: called with an ending whose result found no room in the store.
        """
        self._on_full = on_full
        self._runtime = runtime
        self._gives_up = gives_up
        self._failed = False
        self._batches = 0
        self._free_senders = list(range(_SENDERS))
        self._batch_of_wait = ""

    @property
    def is_free(self) -> bool:
        """Whether another batch can begin."""
        return bool(self._free_senders)

    def settle_and_claim(
        self, endings: list[Ending], room: int, reserve: Reserve | None = None
    ) -> Coroutine[Any, Any, Claims]:
        """Take a sender now; with it settle endings and claim up to `room` tasks. Lasts as long as an outage does."""
        return self._with_sender(self._free_senders.pop(), endings, room, reserve)

    async def _with_sender(self, sender: int, endings: list[Ending], room: int, reserve: Reserve | None) -> Claims:
        try:
            return await self._exchange(sender, endings, room, reserve)
        finally:
            self._free_senders.append(sender)

    async def _exchange(self, sender: int, endings: list[Ending], room: int, reserve: Reserve | None) -> Claims:
        runtime = self._runtime
        groups = [runtime.calls_of(ending) for ending in endings]
        calls = [call for group in groups for call in group]
        self._batches += 1
        batch = str(self._batches)
        claim = None
        if room:
            claim = runtime.store.claim_call(runtime.queues, room, batch_id=batch, sender=sender, reserve=reserve)
        reply = await self._reply_to(calls, claim)
        if reply is None:
            log.error("worker.left_unsettled", endings=len(endings))
            return NO_TASKS
        replies, claims = reply
        at = -1
        for ending, group in zip(endings, groups, strict=True):
            at += len(group)
            if replies[at] == b"full" and isinstance(ending, Finish):
                self._on_full(ending)
            else:
                runtime.settle(ending, replies[at])
        return claims or NO_TASKS

    async def wait_and_claim(
        self, wakeup: QueueWakeup, seconds: float, reserve: Reserve | None
    ) -> tuple[bool, Claims | None]:
        """Wait for work with a claim of one task right behind, which Redis makes the moment the wait ends.

        So an idle worker has its task one round trip sooner. Returns whether the wait took a token, and the claims:
        None = Redis did not make them.

        Raises:
            StoreUnavailable, OperatorError: it may have been made: it has to be taken back.
        """
        store = self._runtime.store
        self._batches += 1
        self._batch_of_wait = batch = str(self._batches)
        claim = store.claim_call(self._runtime.queues, 1, batch_id=batch, sender=_OF_WAITS, reserve=reserve)
        is_woken, reply = await wakeup.wait_and_run(seconds, store.scripts.command(claim))
        return is_woken, store.claims_of(reply)

    def take_back(self) -> Coroutine[Any, Any, Claims]:
        """Let the last claim that went with a wait take nothing from now; what it has taken.

        Lasts as long as an outage does.
        """
        return self._take_back(self._batch_of_wait)

    async def _take_back(self, batch: str) -> Claims:
        runtime = self._runtime
        claim = runtime.store.claim_call(runtime.queues, 0, batch_id=batch, sender=_OF_WAITS)
        reply = await self._reply_to([], claim)
        return reply[1] or NO_TASKS if reply else NO_TASKS

    async def _reply_to(self, calls: list[Call], claim: Call | None) -> Reply | None:
        """None = given up."""
        try:
            return await self._send(calls, claim)
        except OperatorError as exc:
            log.warning("store.turn_failed", error=str(exc))
            return await self._send_again(calls, claim)

    async def _send(self, calls: list[Call], claim: Call | None) -> Reply:
        """One round trip. After an outage the leases come first, so that no other worker claims what runs here."""
        after_outage = self._failed
        active = self._runtime.active.fences() if after_outage else []
        renewal = [self._runtime.store.renew_call(active)] if active else []
        try:
            replies, claims = await self._runtime.store.run_batch([*renewal, *calls], claim)
        except OperatorError:
            self._failed = True
            raise
        if after_outage:
            self._failed = False
        return replies[len(renewal) :], claims

    async def _send_again(self, calls: list[Call], claim: Call | None) -> Reply | None:
        """The same until it succeeds: every call is safe to repeat. None = given up."""
        await asyncio.sleep(uniform(0, 0.1))  # a restart of Redis fails all workers at once
        try:
            return await retrying(
                partial(self._send, calls, claim),
                on=OperatorError,
                gives_up=lambda failures: self._gives_up(failures + 1),
                longest_pause=2.0,
            )
        except OperatorError:
            return None
