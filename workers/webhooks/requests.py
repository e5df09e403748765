"""Sends one request to a receiver: to an address that was checked, without redirects, in a limited time.

The name of the host is resolved here, each address is checked, and the connection goes to one that passed: a name that
resolves otherwise a moment later changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx2

__all__ = ["Answer", "WebhookClient"]

_MOST_ADDRESSES = 4
"""Of one host that are tried."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_INTERNET_6 = ipaddress.ip_network("2000::/3")
"""All that hosts of the internet have of IPv6. What is outside stands for another address, or is of one network."""
_MORE_RESERVED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""What `is_global` of some versions of Python takes for addresses of the internet."""
_DEFAULT_PORTS = {"https": 443, "http": 80}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    status: int | None
    """None = there was no answer."""
    why: str = ""
    """What went wrong, in words that hold no address with a token; empty = nothing."""
    retry_after: float = 0.0
    """Seconds that the receiver wants to have before the next try."""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more of it."""
        return self.status == httpx2.codes.GONE


class WebhookClient:
    """Sends requests; each has a connection of its own. A context manager."""

    def __init__(self, *, timeout: float, allow_private: bool) -> None:
        self._timeout = timeout
        self._allow_private = allow_private
        # No client around it: that would take proxies from the environment, keep cookies and log addresses. No
        # connection is kept: two hosts may have one address, and each needs a certificate of its own.
        self._transport = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send it; what came of it, whatever that is."""
        return await self._answer_of(httpx2.URL(url), lambda target, found: self._post(target, found, headers, body))

    async def refusal(self, url: str) -> str:
        """Why nothing can be sent there, as far as it can be seen without sending; empty = it can."""
        return (await self._answer_of(httpx2.URL(url), _send_nothing)).why

    async def _answer_of(
        self, url: httpx2.URL, send: Callable[[httpx2.URL, list[Address]], Awaitable[Answer]]
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await _resolve(url)
                if refusal := self._refusal(url, addresses):
                    return Answer(None, refusal)
                return await send(url, addresses[:_MOST_ADDRESSES])
        except TimeoutError:
            return Answer(None, f"{url.host} did not answer within {self._timeout:g} s")
        except socket.gaierror:
            return Answer(None, f"{url.host} cannot be resolved")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as exc:
            return Answer(None, f"{url.host}: {_words_of(exc)}")

    def _refusal(self, url: httpx2.URL, addresses: list[Address]) -> str:
        """Why nothing may be sent there; empty = it may. One address that is refused is enough."""
        for address in addresses:
            is_public = _is_public(address)
            if not is_public and not self._allow_private:
                why = "which is no public address (TASKMILL_WEBHOOK_ALLOW_PRIVATE=1 permits it)"
                return f"{url.host} is at {address}, {why}"
            if is_public and url.scheme == "http":
                return f"{url.host} is at {address}, a public address, where a webhook must begin with https://"
        return "" if addresses else f"{url.host} has no address"

    async def _post(self, url: httpx2.URL, addresses: list[Address], headers: Mapping[str, str], body: bytes) -> Answer:
        for address in addresses:
            request = httpx2.Request(
                "POST",
                url.copy_with(host=str(address)),
                headers={"host": url.netloc.decode("ascii"), **headers},
                content=body,
                extensions={"sni_hostname": url.host},  # whose certificate it must be
            )
            try:
                response = await self._transport.handle_async_request(request)
            except httpx2.ConnectError:
                if address == addresses[-1]:
                    raise
                continue
            await response.aclose()  # what it says beside its status is not read
            return _answer(url.host, response.status_code, response.headers)
        raise AssertionError("the last address returns or raises")


async def _send_nothing(_url: httpx2.URL, _addresses: list[Address]) -> Answer:
    return Answer(None)


async def _resolve(url: httpx2.URL) -> list[Address]:
    port = url.port or _DEFAULT_PORTS[url.scheme]
    found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(name) for name in dict.fromkeys(str(entry[4][0]) for entry in found)]


def _is_public(address: Address) -> bool:
    """Whether an address is of the internet; one that stands for another is what the other is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None or address not in _INTERNET_6:
            return False
    is_reserved = any(address in network for network in _MORE_RESERVED)
    return address.is_global and not address.is_multicast and not is_reserved


def _answer(host: str, status: int, headers: httpx2.Headers) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    why = f"{host} answered {status}"
    if 300 <= status < 400:
        why += ", a redirect, which is not followed"
    return Answer(status, why, _seconds(headers.get("retry-after", "")))


def _seconds(retry_after: str) -> float:
    """What `Retry-After` says, a number of seconds or a date; 0 where it says neither."""
    if retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _words_of(exc: BaseException) -> str:
    """What a connection failed of; a certificate that is refused is named."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if type(cause).__name__ == "SSLCertVerificationError":
            return f"its certificate is refused: {getattr(cause, 'verify_message', '')}"
        cause = cause.__cause__ or cause.__context__
    return f"the connection failed ({type(exc).__name__})"
