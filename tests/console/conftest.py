"""What the tests of the console share."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from taskmill.server.settings import ServerSettings
from tests.support.console_visitor import ACTOR, READER, log_in, visitor
from tests.support.store_fixture import StoreFixture


@pytest.fixture
def settings(redis_url: str) -> ServerSettings:
    return ServerSettings(redis_url=redis_url, operator_tokens=f"ada=read,act:{ACTOR} bob=read:{READER}")


@pytest.fixture
async def page(stores: StoreFixture, settings: ServerSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser in which an operator who may act has logged in."""
    async with visitor(stores, settings) as client:
        assert (await log_in(client, ACTOR)).status_code == 303
        yield client
