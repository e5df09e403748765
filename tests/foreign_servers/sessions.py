"""How a server is reached: directly and through Taskmill, over pipes and over HTTP."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client.stdio import StdioServerParameters, stdio_client

from taskmill.testing.client_types import Endpoint
from tests.support.processes import taskmill
from tests.support.redis_server import free_port
from tests.support.waiting import eventually

__all__ = ["Pipes", "answers_to", "http_upstream", "running"]

Json = dict[str, Any]
_LEAVES = {"TASKMILL_GRACE": "1", "TASKMILL_HANDOFF_AFTER": "0.5"}


@dataclass(frozen=True)
class Pipes(Endpoint):
    """A command that speaks over its standard input and output."""

    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path(os.devnull)

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[Any]:
        """The streams of the process."""
        command, *arguments = self.words
        with self.log.open("a") as log:
            started = StdioServerParameters(command=command, args=arguments, env=dict(self.environment))
            async with stdio_client(started, errlog=log) as streams:
                yield streams


def answers_to(question: Json) -> Any:
    """What the client answers: the first choice of each field, one text, one root."""
    match question["method"]:
        case "sampling/createMessage":
            return "a model's text"
        case "roots/list":
            return ["file:///shelf"]
    schema = question["params"].get("requestedSchema", {})
    properties = schema.get("properties", {})
    return {name: _value(properties[name]) for name in schema.get("required", ())}


def _value(schema: Json) -> Any:
    match schema:
        case {"oneOf": [{"const": value}, *_]} | {"enum": [value, *_]} | {"default": value}:
            return value
        case {"type": "boolean"}:
            return True
        case {"type": "integer" | "number"}:
            return schema.get("minimum", 1)
    return "a text"


@contextmanager
def running(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """`taskmill run` with these words; its address."""
    with _process([taskmill(), "run", "--port", "0", *words], {**environment, **_LEAVES}, folder) as log:
        ready = eventually(lambda: re.search(r"http://127\.0\.0\.1:\d+/mcp", log.read_text()), within=60)
        assert ready is not None
        yield ready[0]


@contextmanager
def http_upstream(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """A server's own HTTP transport; its address."""
    port = free_port()
    with _process(words, {**environment, "PORT": str(port)}, folder):
        eventually(lambda: _is_listening(port))
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _process(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """A process and what it writes; ended afterwards."""
    log = folder / f"{Path(words[0]).name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def _is_listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
