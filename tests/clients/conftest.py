"""The server that every client here calls."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

SERVER = Path(__file__).with_name("server.py")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server, worker and store of our own, started by the command that people use."""
    folder = tmp_path_factory.mktemp("taskmill")
    with CommandLine(folder) as cli, cli.started("run", str(SERVER), "--port", "0") as command:
        yield command.url()
