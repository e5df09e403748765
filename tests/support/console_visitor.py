"""A browser for the console in the tests: an HTTP client that logs in as an operator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
from starlette.applications import Starlette

from taskmill.console import ConsoleTasks, console_mount
from taskmill.server.api.access import CheckedHosts, OperatorToken
from taskmill.server.auth.operators import operators_of
from taskmill.server.http.transport_security import TrimmedHeaders, transport_security
from taskmill.server.settings import ServerSettings
from taskmill.store.claims.claims import Claimed
from taskmill.store.scripts import Scripts
from taskmill.store.webhooks.deliveries import DeliveryStore
from tests.support.store_fixture import StoreFixture

__all__ = ["ACTOR", "HOSTILE", "READER", "SHOWN", "SITE", "give_up_webhook", "log_in", "visitor"]

READER, ACTOR = "read-read-read-read", "acts-acts-acts-acts"
SITE = "http://localhost"
HOSTILE = "<script>alert(1)</script> \x1b[31m \u202egnp.exe"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt; \\x1b[31m \\u202egnp.exe"


@asynccontextmanager
async def visitor(
    stores: StoreFixture, settings: ServerSettings, *, lasts: float = 600, **changes: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser that has not logged in. `changes`: of what the console is."""
    operators = operators_of(settings)
    tasks = ConsoleTasks(lambda: stores.store, settings={"redis_url": "…"}, **changes)
    app = Starlette(routes=[console_mount(tasks, operators, lasts=lasts)])
    app.add_middleware(OperatorToken, operators=operators)
    app.add_middleware(CheckedHosts, hosts=transport_security("127.0.0.1", ()))
    app.add_middleware(TrimmedHeaders)
    transport = httpx2.ASGITransport(app)
    headers = {"accept": "text/html", "origin": SITE}
    async with httpx2.AsyncClient(transport=transport, base_url=SITE, headers=headers) as client:
        yield client


async def log_in(client: httpx2.AsyncClient, token: str, back: str = "/") -> httpx2.Response:
    return await client.post("/console/login", params={"next": back}, data={"token": token})


async def give_up_webhook(stores: StoreFixture, task: Claimed, why: str) -> None:
    """End a task whose webhook is then tried once, and given up."""
    deliveries = DeliveryStore(stores.redis, stores.settings, Scripts(stores.keys), stores.keys)
    await stores.finish(task)
    _, (delivery,) = await deliveries.take("", 10, timedelta(minutes=1))
    await deliveries.give_up(delivery, why)
