"""Hears the worker's own channel: cancels and answers reach a running task at once.

A missed signal costs time, never correctness: the lease thread learns of cancels too, and every waiting question
looks again when the line is back.
"""

import structlog

from taskmill.store.formats.keys import Keys
from taskmill.store.pubsub.subscriber import Subscriber
from taskmill.store.settings import StoreSettings
from taskmill.workers.attempts.active import ActiveTasks, Stop

__all__ = ["SignalListener"]

log = structlog.get_logger()


class SignalListener:
    """A background service: start, stop."""

    def __init__(self, settings: StoreSettings, keys: Keys, held: ActiveTasks, *, worker: str) -> None:
        channel = keys.signal(worker)
        self._held = held
        self._line = Subscriber(settings, lambda: [channel], self._hear)

    def start(self) -> None:
        """Start listening."""
        self._line.open()

    async def stop(self) -> None:
        """Stop listening."""
        await self._line.close()

    def _hear(self, _channel: str, message: bytes | None) -> None:
        if message is None:
            for held in self._held.all():
                held.stir()
            return
        kind, _, task_id = message.decode().partition(" ")
        task = self._held.find(task_id)
        if task is None:
            return
        if kind == "cancel":
            log.info("task.cancel_heard", task_id=task_id)
            task.stop(Stop.LOST)
        elif kind == "answer":
            task.stir()
