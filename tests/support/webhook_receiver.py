"""A receiver of webhooks for tests: real HTTP on this machine, which answers as it is told and checks signatures."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.replica import serving
from tests.support.waiting import eventually_async

__all__ = ["ALL_ENDS", "SECRET", "Receiver", "receiver"]

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, so").decode()
ALL_ENDS = "cancelled crashed failed succeeded tool_error"
"""`NewTask.webhook` where nothing is set."""


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """As the specification says: over id, time and body."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """What came, and what is answered: the next of `answers`, 204 when there are no more."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[Callable[[], Response]] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set = requests are answered."""

    async def got(self, times: int = 1, *, within: float = 30) -> list[Received]:
        """Wait for so many requests."""
        return await eventually_async(lambda: self.received, lambda found: len(found) >= times, within=within)

    def will_answer(self, status: int, **headers: str) -> None:
        """Answer a further request with this."""
        self.answers.append(lambda: Response(status_code=status, headers=headers))

    async def answer(self, request: Request) -> Response:
        self.received.append(Received(dict(request.headers), await request.body()))
        answer = self.answers.pop(0) if self.answers else lambda: Response(status_code=204)
        await self.opened.wait()
        return answer()


@asynccontextmanager
async def receiver(**server: Any) -> AsyncIterator[Receiver]:
    """A receiver that runs. `server`: how uvicorn serves it."""
    one = Receiver()
    one.opened.set()
    async with serving(Starlette(routes=[Route("/hook", one.answer, methods=["GET", "POST"])]), **server) as url:
        one.url = f"{url}/hook?token=of-the-receiver"
        try:
            yield one
        finally:
            one.opened.set()
