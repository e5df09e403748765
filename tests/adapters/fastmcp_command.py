"""FastMCP's own command, as its users start it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.command_line import CommandLine, is_ready
from tests.support.redis_server import free_port
from tests.support.waiting import eventually

__all__ = ["FASTMCP", "served_by_fastmcp"]

FASTMCP = str(Path(sys.executable).with_name("fastmcp"))


@contextmanager
def served_by_fastmcp(cli: CommandLine, file: str) -> Iterator[str]:
    """`fastmcp run` with a file, once it is ready; its URL."""
    port = free_port()
    server = subprocess.Popen(
        [FASTMCP, "run", file, "--transport", "http", "--port", str(port), "--no-banner"],
        cwd=cli.folder,
        env=cli.environment,
        stdin=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_ready(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.kill()
        server.wait()
