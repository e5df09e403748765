"""The test bed as a pytest fixture. The one module here that needs pytest."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskmill.server.tool_host import ToolHost
from taskmill.testing.bed import TestBed

try:
    from pytest_asyncio import fixture as _fixture
except ImportError:  # the anyio plugin runs async fixtures that are pytest's own
    _fixture = pytest.fixture  # type: ignore[assignment]  # called the same way

__all__ = ["bed_fixture"]


def bed_fixture(server: ToolHost, **options: Any) -> Any:
    """A fixture that gives each test a bed of its own: `bed = bed_fixture(mcp)` in a test module or `conftest.py`.

    `options`: those of `TestBed`.
    """

    @_fixture
    async def bed() -> AsyncIterator[TestBed]:
        async with TestBed(server, **options) as made:
            yield made

    return bed
