"""Findings of `taskmill doctor` about payloads at rest: the keys, and what is stored without them."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

from taskmill.engine.errors import SettingsError
from taskmill.store.connection.checks import Finding
from taskmill.store.seal_keys import read_keys
from taskmill.store.settings import StoreSettings

__all__ = ["sealing_findings", "unsealed_finding"]

_TO_END = "once no task is left that was stored without keys, remove TASKMILL_SEAL_ACCEPT_UNSEALED"


def sealing_findings(settings: StoreSettings) -> Iterator[Finding]:
    """Whether payloads are sealed, with which keys, and whether unsealed ones are accepted."""
    if not settings.has_seal_keys:
        yield Finding("sealing", "ok", "off: payloads are stored as they are, for all who can read Redis")
        return
    try:
        count = asyncio.run(read_keys(settings))
    except SettingsError as exc:
        yield Finding("sealing", "unfit", str(exc), "correct it: servers and workers do not start without their keys")
        return
    source = settings.seal_keys_file or settings.seal_key_provider or "the environment"
    yield Finding("sealing", "ok", f"on: {count} key{'s' if count > 1 else ''} from {source}; the first seals")
    until = settings.seal_accept_unsealed
    if isinstance(until, datetime) and until <= datetime.now(UTC):
        yield Finding("sealing", "warning", f"unsealed payloads were accepted until {until.isoformat()}", _TO_END)
    elif until:
        end = until.isoformat() if isinstance(until, datetime) else "someone ends it"
        yield Finding("sealing", "warning", f"payloads that are not sealed are accepted, until {end}", _TO_END)


def unsealed_finding(settings: StoreSettings, unsealed: int, looked_at: int) -> Iterator[Finding]:
    """What of the latest tasks keys would refuse. `unsealed` of `looked_at` were stored without keys."""
    if not settings.has_seal_keys or not unsealed:
        return
    detail = f"{unsealed} of the latest {looked_at} tasks were stored without keys"
    until = settings.seal_accept_unsealed
    if until is True or (isinstance(until, datetime) and datetime.now(UTC) < until):
        yield Finding("sealed tasks", "warning", f"{detail}, and are accepted", _TO_END)
    else:
        remedy = "to let them end, set TASKMILL_SEAL_ACCEPT_UNSEALED to a day by which their results have expired"
        yield Finding("sealed tasks", "warning", f"{detail}, and are refused", remedy)
