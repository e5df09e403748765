"""What both vendors' APIs have in common: a call is tried again where that helps, and what came of it is put in words.

Their SDKs are made by the same generator, so their errors have the same attributes. An API's own words stay in the log:
they may repeat the prompt, or a part of a key.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from importlib.util import find_spec
from random import uniform
from types import ModuleType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog

from taskmill.server.sampling.failures import SamplingFailed

__all__ = ["Vendor", "call_api", "refuse_block"]

log = structlog.get_logger()
T = TypeVar("T")
_TRIES = 5
_LONGEST_WAIT = 60.0
"""Seconds: a wait that the API asks for and that is longer is left to the tool's own retries."""
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
"""How reading fails where something else answered, a proxy for instance: the SDKs do not check what they read."""
TIMEOUT = 600.0
"""Seconds that one answer may take."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """Who has the API, in the words of an error."""

    name: str
    extra: str
    """The extra that brings its SDK, and the name of that."""
    keys: tuple[str, ...]
    """The variables that may have its key; the first is the usual one."""
    url: str
    """The variable of its address."""
    key_hint: str = ""
    """What to know of the key."""

    @property
    def key(self) -> str:
        """The variable that is named to a person."""
        return self.keys[0]

    def fault(self) -> SamplingFailed | None:
        """Why it could not be called, as far as that is known without a call; None = nothing is known."""
        if find_spec(self.extra) is None:
            text = f"The server's model is {self.name}'s, whose library is not installed: "
            return SamplingFailed(text + f"pip install 'taskmill[{self.extra}]'.", reason="not_installed")
        if not any(os.environ.get(key) for key in self.keys):
            text = f"The server has no key for {self.name}: set {self.key}{self.key_hint}."
            return SamplingFailed(text, reason="no_key")
        if not os.environ.get(self.url, "http:").startswith(("http:", "https:")):
            text = f"{self.url} is no address: write http://host:port, or https://..., or leave it out."
            return SamplingFailed(text, reason="bad_setting")
        return None


async def call_api(
    vendor: Vendor,
    model: str,
    open_client: Callable[[ModuleType], AbstractAsyncContextManager[Any]],
    send: Callable[[Any], Awaitable[Any]],
    read: Callable[[Any], T],
) -> T:
    """The API's answer.

    `open_client`: makes a client of the SDK, in a thread: the first import takes a second. `send`: one request by it.
    `read`: makes the answer of what came; what it cannot read came from something else than this API.

    Raises:
        SamplingFailed: it gives none.
    """
    sdk, client = await anyio.to_thread.run_sync(_opened, vendor, open_client)
    async with client as opened:
        for tried in range(1, _TRIES + 1):
            try:
                return _read(vendor, read, await send(opened))
            except ValueError:  # it is no JSON
                raise _bad_answer(vendor) from None
            except sdk.APIError as exc:
                failure = _failure_of(exc, sdk, vendor, model)
                wait = _wait_before(tried, exc)
                facts = {"reason": failure.reason, "api": vendor.extra, "status": getattr(exc, "status_code", None)}
                if not failure.retryable or tried == _TRIES or wait > _LONGEST_WAIT:
                    log.warning("sampling.failed", detail=_words_of(exc), **facts)
                    raise failure from None
                log.info("sampling.tried_again", seconds=round(wait, 2), **facts)
            await anyio.sleep(wait)
    raise AssertionError("the last try returns or raises")


def refuse_block(vendor: Vendor, block: Any) -> SamplingFailed:
    """The error of content that the API does not take."""
    return SamplingFailed(f"{vendor.name} does not take {block.type} there, or in this form.", reason="refused")


def _opened(vendor: Vendor, open_client: Callable[[ModuleType], Any]) -> tuple[Any, Any]:
    if (fault := vendor.fault()) is not None:
        raise fault
    sdk = import_module(vendor.extra)
    return sdk, open_client(sdk)


def _failure_of(exc: Any, sdk: Any, vendor: Vendor, model: str) -> SamplingFailed:
    """The error in words."""
    status, name = getattr(exc, "status_code", None), vendor.name
    if isinstance(exc, sdk.APIConnectionError):
        text = f"{name}'s API cannot be reached, or did not answer in time. Check the network and {vendor.url}."
        return SamplingFailed(text, reason="unreachable", retryable=True)
    if status == 402 or getattr(exc, "code", None) == "insufficient_quota":
        return SamplingFailed(f"The account at {name} has no credit left.", reason="no_credit")
    if status in (401, 403):
        text = f"{name} refused the server's key ({status}). Check {vendor.key}, and what its account may use."
        return SamplingFailed(text, reason="refused_key")
    if status == 404:
        text = f"{name} has no model {model!r}, or this key may not use it. Check TASKMILL_SAMPLING_MODEL."
        return SamplingFailed(text, reason="unknown_model")
    if status == 429:
        text = f"{name} limits the rate of this server's requests. Try again later."
        return SamplingFailed(text, reason="rate_limited", retryable=True)
    if status in (408, 409) or (status or 0) >= 500:
        text = f"{name}'s API is overloaded or out of order ({status}). Try again later."
        return SamplingFailed(text, reason="overloaded", retryable=True)
    if status is None:
        return _bad_answer(vendor)
    return SamplingFailed(
        f"{name} refused the request ({status}); the server's log has its words. A conversation that is too long for "
        f"the model, or a max_tokens that is too large, are common reasons.",
        reason="refused",
    )


def _read(vendor: Vendor, read: Callable[[Any], T], received: Any) -> T:
    try:
        return read(received)
    except _UNREADABLE:
        raise _bad_answer(vendor) from None


def _bad_answer(vendor: Vendor) -> SamplingFailed:
    log.warning("sampling.failed", reason="bad_answer", api=vendor.extra)
    return SamplingFailed(f"{vendor.name}'s API gave no usable answer. Check {vendor.url}.", reason="bad_answer")


def _wait_before(tried: int, exc: Any) -> float:
    """Seconds before the next try: what the API asks for, else 1, 2, 4, ... with some chance in it."""
    headers = getattr(getattr(exc, "response", None), "headers", {})
    asked = headers.get("retry-after", "")
    try:
        if in_ms := headers.get("retry-after-ms"):
            return max(0.0, float(in_ms) / 1000)
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(asked)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return float(2 ** (tried - 1)) * uniform(0.75, 1.25)


def _words_of(exc: Any) -> str:
    """The API's own words, for the log; not of a refused key, which they repeat in part."""
    return "" if getattr(exc, "status_code", None) in (401, 403) else str(exc)[:500]
