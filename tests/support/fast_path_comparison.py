"""Every fast answer to a request about a task, compared with the SDK's to the very same request.

Such a request may be sent twice: a poll changes nothing, and a cancel or an answer changes nothing any more.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from taskmill.server.fast_path.middleware import FastPath

__all__ = ["both_ways"]

_TRIES = 5


@pytest.fixture(autouse=True)
def both_ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a `conftest.py` imports this: in every test, compare the answers of the fast paths with the SDK's."""
    differences = compare_both_ways(monkeypatch)
    yield
    assert differences == []


def compare_both_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compare the answers while the test runs; the list gets the differences."""
    differences: list[str] = []
    reply = FastPath._reply

    async def compared(self: Any, message: Any, headers: Any, scope: Any) -> Any:
        answer = await reply(self, message, headers, scope)
        if answer is None or headers["mcp-method"] == "tools/call":
            return answer
        fast = answer
        for _ in range(_TRIES):
            slow = await _by_the_sdk(self._app, message, scope)
            if slow == (fast[0], json.loads(fast[1])):
                return answer
            if (fast := await reply(self, message, headers, scope)) is None:  # the task changed between the two
                return answer
        differences.append(f"{headers['mcp-method']}: {fast} by the fast path, {slow} by the SDK")
        return answer

    monkeypatch.setattr(FastPath, "_reply", compared)
    return differences


async def _by_the_sdk(app: Any, message: Any, scope: Any) -> tuple[int, Any]:
    asked, said = [message], list[Any]()

    async def receive() -> Any:
        return asked.pop() if asked else await _never()

    async def send(part: Any) -> None:
        said.append(part)

    await app(dict(scope), receive, send)
    return said[0]["status"], json.loads(b"".join(part.get("body", b"") for part in said[1:]))


async def _never() -> Any:
    await asyncio.Event().wait()
