"""A Redis server of one contender's own, and what it says about the work it did. All run with the same settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.processes import Program, await_value
from taskmill.store.embedded.binary import find_server

__all__ = ["PrivateRedis", "Usage"]

_SETTINGS = ("--port", "0", "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", "")


@dataclass(frozen=True)
class Usage:
    """What the server had done at one moment."""

    commands: int
    """Calls of all commands, those inside scripts included; the bench's own are left out."""
    bytes: int
    """Received and sent."""
    memory: int
    """In use."""
    cpu_seconds: float
    """Processor time, of all its threads."""

    def since(self, earlier: "Usage") -> "Usage":
        """What was done between two moments."""
        return Usage(
            self.commands - earlier.commands,
            self.bytes - earlier.bytes,
            self.memory - earlier.memory,
            self.cpu_seconds - earlier.cpu_seconds,
        )


class PrivateRedis:
    """Listens on a unix socket in `directory`; append-only file on, nothing evicted."""

    def __init__(self, directory: Path, *settings: str) -> None:
        """`settings`: more of Redis's own, as flags."""
        socket = directory / "redis.sock"
        self.url = f"unix://{socket}"
        command: list[str | Path] = [find_server(), *_SETTINGS, *settings, "--unixsocket", socket, "--dir", directory]
        self.program = Program(command, environment={}, output=directory / "redis.log")
        self._client: Any = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
        self._asked = 0
        await_value(self._pong, "Redis to answer", seconds=10)

    def sizes(self, keys: tuple[tuple[str, str], ...]) -> int:
        """The sum of the sizes of (command, key) pairs: ZCARD, XLEN, LLEN..."""
        self._asked += len(keys)
        return sum(int(self._client.execute_command(command, key)) for command, key in keys)

    def command(self, *parts: Any) -> Any:
        """The reply, as redis-py has it."""
        return self._client.execute_command(*parts)

    def usage(self) -> Usage:
        """Counters so far."""
        calls = self._client.info("commandstats")
        facts = self._client.info()
        commands = sum(entry["calls"] for name, entry in calls.items() if name not in ("cmdstat_info", "cmdstat_ping"))
        traffic = facts["total_net_input_bytes"] + facts["total_net_output_bytes"]
        return Usage(commands - self._asked, traffic, facts["used_memory"], self.program.cpu_seconds())

    def subscriptions(self) -> int:
        """Connections that are subscribed to something."""
        return len(self._client.client_list(_type="pubsub"))

    def stop(self) -> None:
        """End the server."""
        self._client.close()
        self.program.stop()

    def _pong(self) -> bool | None:
        self.program.check()
        try:
            return bool(self._client.ping())
        except redis.ConnectionError:
            return None
