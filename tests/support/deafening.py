"""A Redis whose subscribers miss what a script publishes."""

from typing import Any

from redis.asyncio import Redis

__all__ = ["Deafening"]


class Deafening:
    """A Redis client that closes every subscription in the same transaction as it runs a script."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def evalsha(self, *args: Any) -> Any:
        await self._redis.script_exists(args[0])
        return await self._together("EVALSHA", *args)

    async def eval(self, *args: Any) -> Any:
        return await self._together("EVAL", *args)

    async def _together(self, *command: Any) -> Any:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            pipe.execute_command(*command)
            return (await pipe.execute())[1]
