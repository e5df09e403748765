"""Made what lies beside it: data that a Redis 6.2 wrote for Taskmill, and the same values as text.

    ./scripts/aside .venv-redis62 constraints/redis62.txt
    PYTHONPATH=. .venv/bin/python tests/store/redis62_data/make.py

It need not be made again when records change their form: the test compares what Redis holds, not what it means. Half of
it is a snapshot at the head of the file and half are commands behind it, as in a file that has been rewritten.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from taskmill.store.settings import StoreSettings
from tests.support.store_fixture import OWNER, StoreFixture, question

HERE = Path(__file__).parent
SERVER = Path(__file__).parents[3] / ".venv-redis62" / "bin" / "redis-server"
CENTURY = timedelta(days=36500)  # the file holds moments, and what has expired is not loaded


async def values_of(redis: Redis) -> dict[str, Any]:
    """What each key holds, as JSON has it; bytes are kept by their numbers."""
    found: dict[str, Any] = {}
    for key in sorted(await redis.keys("*")):
        match kind := await redis.type(key):
            case "string":
                found[key] = await redis.get(key)
            case "hash":
                found[key] = await redis.hgetall(key)
            case "zset":
                found[key] = [[member, score] for member, score in await redis.zrange(key, 0, -1, withscores=True)]
            case "stream":
                found[key] = [[entry, fields] for entry, fields in await redis.xrange(key)]
            case "set":
                found[key] = sorted(await redis.smembers(key))
            case "list":
                found[key] = await redis.lrange(key, 0, -1)
            case _:
                raise AssertionError(f"{key} is a {kind}")
    return found


async def fill(redis: Redis) -> None:
    stores = StoreFixture(redis, StoreSettings(lease=60))
    async with stores.store.feed:
        await stores.finish(await stores.start(retention=CENTURY))
        running = await stores.start(retention=CENTURY)
        await redis.bgrewriteaof()
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.01)
        await stores.create(retention=CENTURY, arguments={"path": "älter"})
        await stores.lapse(running.id)
        asking = await stores.start(retention=CENTURY)
        await stores.ann.ask(asking.id, 1, [question(1)])
        stopped = await stores.start(retention=CENTURY)
        await stores.store.cancel(stopped.id, OWNER)
    for key in await redis.keys("*"):
        if 0 <= await redis.pttl(key) < CENTURY.total_seconds() * 500:
            await redis.delete(key)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = ["--port", "0", "--unixsocket", "redis.sock", "--appendonly", "yes", "--save"]
        with subprocess.Popen([SERVER, *settings, ""], cwd=directory, stdout=subprocess.DEVNULL) as server:
            try:
                while not (socket := Path(directory) / "redis.sock").exists():
                    await asyncio.sleep(0.01)
                async with Redis(unix_socket_path=str(socket)) as redis:
                    await fill(redis)
                async with Redis(unix_socket_path=str(socket), decode_responses=True, encoding="latin-1") as redis:
                    values = await values_of(redis)
            finally:
                server.terminate()
        shutil.copy(Path(directory) / "appendonly.aof", HERE)
    (HERE / "values.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
