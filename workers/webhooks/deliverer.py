"""Delivers webhooks: takes what is due, sends it, and notes what came of it. A service of workers.

A worker that is killed meanwhile loses the lease of what it sends, and another sends it again, under the same id.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from random import uniform
from time import time

import structlog

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.store.webhooks.deliveries import Delivery, DeliveryStore
from taskmill.workers.services.background_task import BackgroundTask
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.webhooks.message import body_of, signed_headers
from taskmill.workers.webhooks.receivers import AT_ONCE, Receivers, Turn
from taskmill.workers.webhooks.requests import Answer, WebhookClient
from taskmill.workers.webhooks.secrets import WebhookSecrets

__all__ = ["WebhookDeliverer", "webhook_services"]

log = structlog.get_logger()
_GROWTH, _STEPS, _LONGEST_WAIT = 3, 20, 3600.0
"""How the wait before a retry grows, how often, and its most seconds; a receiver may ask for a day."""
_LONGEST_ASKED = 24 * 3600.0
_STOP_TIMEOUT = 5.0
"""Seconds that requests get to end when the worker stops; what has not ended is sent again by another."""


class WebhookDeliverer(BackgroundTask):
    """A background service: start, stop. It stops to take any; requests that have been sent may be answered."""

    name = "taskmill.webhooks"

    def __init__(
        self, store: DeliveryStore, settings: WorkerSettings, policy: Callable[[str], TaskConfig | None]
    ) -> None:
        """Raises SettingsError if the secrets cannot be read. `policy`: of a tool; None = it is not known here."""
        self._store = store
        self._settings = settings
        self._policy = policy
        self._secrets = WebhookSecrets(settings)
        self._sending: set[asyncio.Task[None]] = set()
        self._receivers = Receivers()

    async def _run(self) -> None:
        timeout, allow_private = self._settings.webhook_timeout, self._settings.webhook_allow_private
        async with WebhookClient(timeout=timeout, allow_private=allow_private) as http:
            try:
                while True:
                    await self._deliver_due(http)
            finally:
                await self._end_requests()

    async def _deliver_due(self, http: WebhookClient) -> None:
        """Start to send what is due, as far as there is room; return when there may be more."""
        room, taken = AT_ONCE - len(self._sending), list[Delivery]()
        lease = timedelta(seconds=self._settings.webhook_timeout + self._settings.lease)
        with suppress(StoreUnavailable):
            now, taken = await self._store.take(self._settings.app or "", room, lease)
            for delivery in taken:
                task = asyncio.create_task(self._deliver(http, delivery, now), name="taskmill.webhook")
                self._sending.add(task)
                task.add_done_callback(self._forget)
        if len(taken) == room:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(self._settings.poll)

    async def _deliver(self, http: WebhookClient, delivery: Delivery, now_ms: int) -> None:
        view, policy = delivery.view, self._policy(delivery.view.record.tool)
        url = None if policy is None else self._settings.webhook_of(policy.webhook)
        with suppress(StoreUnavailable):  # the lease ends, and it is sent again
            if url is None:
                await self._note_failure(delivery, now_ms, Answer(None, "no worker that took it knows its webhook"))
                return
            if (turn := self._receivers.turn(url)) is not None:
                await self._put_off(delivery, now_ms, turn)
                return
            body = body_of(view, with_result=self._settings.webhook_result)
            headers = signed_headers(view.record.id, body, self._secrets.current(), time())
            with self._receivers.sending(url):
                answer = await http.post(url, headers, body)
            self._receivers.note(url, answer)
            if answer.is_delivered:
                await self._store.delivered(delivery)
                log.info("webhook.delivered", task_id=delivery.task_id, tries=delivery.tries + 1)
            else:
                await self._note_failure(delivery, now_ms, answer)

    async def _note_failure(self, delivery: Delivery, now_ms: int, answer: Answer) -> None:
        settings, tries = self._settings, delivery.tries + 1
        growth = _GROWTH ** min(delivery.tries, _STEPS)
        usual = min(settings.webhook_backoff * growth, _LONGEST_WAIT) * uniform(0.8, 1.2)
        wait = max(usual, min(answer.retry_after, _LONGEST_ASKED))
        facts = {"task_id": delivery.task_id, "tool": delivery.view.record.tool, "tries": tries, "why": answer.why}
        if answer.is_gone or self._is_over(delivery, now_ms, usual):
            await self._store.give_up(delivery, answer.why)
            log.error("webhook.given_up", **facts, hint="taskmill webhooks retry sends it again")
        else:
            await self._store.try_later(delivery, timedelta(seconds=wait), tries=tries, why=answer.why)
            log.warning("webhook.failed", **facts, next_try=round(wait, 1))

    async def _put_off(self, delivery: Delivery, now_ms: int, turn: Turn) -> None:
        if self._is_over(delivery, now_ms):
            await self._note_failure(delivery, now_ms, Answer(None, turn.why))
        else:
            wait = timedelta(seconds=turn.seconds * uniform(1.0, 1.5))
            await self._store.try_later(delivery, wait, tries=delivery.tries, why=turn.why)

    def _is_over(self, delivery: Delivery, now_ms: int, wait: float = 0.0) -> bool:
        """Whether its time is up after `wait` seconds more."""
        return (now_ms - delivery.since_ms) / 1000 + wait > self._settings.webhook_give_up

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("webhook.broke", exc_info=exc)  # a fault of ours: its lease ends, and it is tried again

    async def _end_requests(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=_STOP_TIMEOUT)
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)


def webhook_services(store: DeliveryStore, settings: WorkerSettings, toolbox: Toolbox) -> list[WebhookDeliverer]:
    """What delivers the webhooks of this worker's tools: nothing where there are no secrets, which may be logged.

    Raises:
        SettingsError: the secrets cannot be read.
    """
    if settings.signs_webhooks:
        return [WebhookDeliverer(store, settings, toolbox.policy)]
    if tools := sorted(name for name, policy in toolbox.policies().items() if policy.webhook):
        hint = "set TASKMILL_WEBHOOK_SECRET on servers and workers: without it no webhook is sent"
        log.warning("webhooks.off", tools=tools, hint=hint)
    return []
