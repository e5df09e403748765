"""Findings of `taskmill doctor` about webhooks: whether they can be signed and sent, and what is not delivered."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from taskmill.engine.errors import SettingsError
from taskmill.engine.policy import TaskConfig
from taskmill.store.connection.checks import Finding
from taskmill.store.settings import StoreSettings
from taskmill.store.webhooks.deliveries import MOST_LISTED, Delivery
from taskmill.workers.webhooks.requests import WebhookClient
from taskmill.workers.webhooks.secrets import WebhookSecrets

__all__ = ["undelivered_findings", "webhook_findings"]

_LATE_MS = 60_000
_NEW_SECRET = "set TASKMILL_WEBHOOK_SECRET on servers and workers: echo whsec_$(openssl rand -base64 32)"  # noqa: S105


def webhook_findings(settings: StoreSettings, policies: Mapping[str, TaskConfig]) -> Iterator[Finding]:
    """Whether there are webhooks, secrets to sign them, and a way to each address. Nothing is sent."""
    tools = sorted(name for name, policy in policies.items() if policy.webhook)
    if not settings.signs_webhooks:
        if tools:
            found = f"{', '.join(tools)}: no webhook is sent, as there is no secret to sign it with"
            yield Finding("webhooks", "unfit", found, _NEW_SECRET)
        else:
            yield Finding("webhooks", "ok", "none: TASKMILL_WEBHOOK_URL names no address for them")
        return
    try:
        count = len(WebhookSecrets(settings).current())
    except SettingsError as exc:
        yield Finding("webhooks", "unfit", str(exc), "correct it: workers do not start without these secrets")
        return
    addresses = {settings.webhook_of(policies[tool].webhook) for tool in tools} | {settings.webhook_url}
    refusals = asyncio.run(_refusals(settings, sorted(filter(None, addresses))))
    for why in refusals:
        yield Finding("webhooks", "warning", why, "correct the address, or what it needs: webhooks there are not sent")
    if not refusals:
        signed = f"signed with {count} secret{'s' if count > 1 else ''}"
        there = len(addresses - {None})
        yield Finding("webhooks", "ok", f"{there} address{'es' if there > 1 else ''}, {signed}")


async def _refusals(settings: StoreSettings, addresses: Sequence[str]) -> list[str]:
    timeout, allow_private = settings.webhook_timeout, settings.webhook_allow_private
    async with WebhookClient(timeout=timeout, allow_private=allow_private) as http:
        found = [await http.refusal(address) for address in addresses]
    return [why for why in found if why]


def undelivered_findings(undelivered: Sequence[Delivery], now_ms: int) -> Iterator[Finding]:
    """Webhooks that were given up, and those that no worker has tried."""
    given_up = [one for one in undelivered if one.is_given_up]
    late = [one for one in undelivered if not one.taken and now_ms - one.since_ms > _LATE_MS]
    if given_up:
        found = f"{_count(given_up)} given up, the latest: {given_up[0].error}"
        yield Finding("undelivered webhooks", "warning", found, "taskmill webhooks list; then taskmill webhooks retry")
    if late:
        remedy = "start a worker of that server with TASKMILL_WEBHOOK_SECRET"
        yield Finding("undelivered webhooks", "warning", f"{_count(late)} waiting, and no worker tries", remedy)


def _count(some: Sequence[Delivery]) -> str:
    many = f"{len(some)} or more" if len(some) >= MOST_LISTED else str(len(some))
    return f"{many} {'are' if len(some) > 1 else 'is'}"
