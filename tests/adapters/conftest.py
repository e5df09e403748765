"""Fixtures for tests of servers of other frameworks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.testing import TestBed
from tests.support.command_line import CommandLine
from tests.support.fast_path_comparison import both_ways as both_ways


@pytest.fixture
def bed_of(redis: Redis, redis_url: str) -> Callable[..., TestBed]:
    """Makes the whole engine around a server: `async with bed_of(mcp) as bed`."""

    def make(server: Any, **settings: Any) -> TestBed:
        return TestBed(server, redis_url=redis_url, **settings)

    return make


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """A folder of its own to run commands in."""
    with CommandLine(tmp_path) as made:
        yield made
