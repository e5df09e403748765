"""Everything that ever reaches one Redis, as its commands, its append-only file and its keys show it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from redis.asyncio import Redis

from tests.support.redis_server import PrivateRedis

__all__ = ["RedisWatch", "watched"]

_LAST = "the last command that is watched"


class RedisWatch:
    """What was seen, once the block of `watched` is left."""

    def __init__(self) -> None:
        self.commands = ""
        """Every command, those of scripts and publications too, as MONITOR shows them."""
        self.kept = b""
        """Every key and value at the end."""
        self.file = b""
        """The append-only file."""

    @property
    def places(self) -> dict[str, str]:
        """All three, by name."""
        return {"commands": self.commands, "keys": self.kept.decode("latin-1"), "file": self.file.decode("latin-1")}


@asynccontextmanager
async def watched(server: PrivateRedis) -> AsyncIterator[RedisWatch]:
    """Watch a Redis that writes an append-only file."""
    watch, is_watching = RedisWatch(), anyio.Event()
    lines: list[str] = []
    async with (
        Redis.from_url(server.url) as redis,
        Redis.from_url(server.url) as other,
        anyio.create_task_group() as group,
    ):

        async def read() -> None:
            async with redis.monitor() as monitor:
                is_watching.set()
                async for command in monitor.listen():
                    lines.append(command["command"])
                    if _LAST in command["command"]:
                        return

        group.start_soon(read)
        await is_watching.wait()
        try:
            yield watch
        finally:
            with anyio.fail_after(30):
                await other.echo(_LAST)
                while not lines or _LAST not in lines[-1]:
                    await anyio.sleep(0.01)
            watch.commands = "\n".join(lines)
            await other.config_set("rdbcompression", "no")  # else words are cut in pieces
            names = await other.keys()
            watch.kept = b"\n".join([*names, *[await other.dump(name) or b"" for name in names]])
            watch.file = server.append_only_file.read_bytes()
