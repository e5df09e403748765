"""Requests to the authorization server: JSON, of a limited size, in a limited time, without redirects."""

import json
from typing import Any

import httpx2

from taskmill.engine.errors import AuthenticationUnavailable

__all__ = ["NotThere", "read_json", "timeout"]

_LARGEST = 512 * 1024
"""Bytes of a reply. A set of ten keys has some 5 kB."""
_NOT_THERE = 404


class NotThere(AuthenticationUnavailable):
    """The authorization server has nothing at that address."""


def timeout() -> httpx2.Timeout:
    """How long a request may take."""
    return httpx2.Timeout(5.0)


async def read_json(http: httpx2.AsyncClient, request: httpx2.Request) -> tuple[dict[str, Any], httpx2.Headers]:
    """The JSON object of a reply, and its headers.

    Raises:
        NotThere: 404.
        AuthenticationUnavailable: no reply, another status, too large, or no JSON object.
    """
    url = str(request.url)
    try:
        response = await http.send(request, stream=True, follow_redirects=False)
        try:
            if response.status_code == _NOT_THERE:
                raise NotThere(f"{url} is not there.")
            if response.status_code != httpx2.codes.OK:
                raise AuthenticationUnavailable(f"{url} answered {response.status_code}.")
            body = await _read(response, url)
        finally:
            await response.aclose()
        answer = json.loads(body)
    except httpx2.HTTPError as exc:
        raise AuthenticationUnavailable(f"{url} cannot be reached: {type(exc).__name__}.") from exc
    except (ValueError, RecursionError) as exc:
        raise AuthenticationUnavailable(f"{url} did not answer with JSON.") from exc
    if not isinstance(answer, dict):
        raise AuthenticationUnavailable(f"{url} did not answer with a JSON object.")
    return answer, response.headers


async def _read(response: httpx2.Response, url: str) -> bytes:
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _LARGEST:
            raise AuthenticationUnavailable(f"{url} answered with more than {_LARGEST // 1024} kB.")
    return body
