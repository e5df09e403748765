"""Listens to the worker's own channel, so that cancels and answers reach an active task at once.

A missed signal costs time, never correctness: the lease thread learns of cancels too, and every waiting question checks
for its answer when the connection is back.
"""

from collections.abc import Callable

import structlog

from taskmill.store.formats.keys import Keys
from taskmill.store.pubsub.subscriber import Subscriber
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.worker_orders import ORDERS_MESSAGE
from taskmill.workers.attempts.active import ActiveTasks, Stop

__all__ = ["SignalListener"]

log = structlog.get_logger()


class SignalListener:
    """A background service: start, stop."""

    def __init__(
        self, settings: StoreSettings, keys: Keys, active: ActiveTasks, *, worker: str, on_orders: Callable[[], None]
    ) -> None:
        """`on_orders`: called when operators may want something else of this worker."""
        channel = keys.signal(worker)
        self._active = active
        self._on_orders = on_orders
        self._subscriber = Subscriber(settings, lambda: [channel], self._receive)

    def start(self) -> None:
        """Start listening."""
        self._subscriber.open()

    async def stop(self) -> None:
        """Stop listening."""
        await self._subscriber.close()

    def _receive(self, _channel: str, message: bytes | None) -> None:
        if message is None or message.decode() == ORDERS_MESSAGE:
            self._on_orders()
        if message is None:
            for task in self._active.all():
                task.wake()
            return
        kind, _, task_id = message.decode().partition(" ")
        found = self._active.find(task_id)
        if found is None:
            return
        if kind == "cancel":
            found.stop(Stop.LOST, is_last=True)  # before the log line, which takes longer
            log.info("task.cancel_heard", task_id=task_id)
        elif kind == "answer":
            found.wake()
