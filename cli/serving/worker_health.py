"""`python -m taskmill.cli.serving.worker_health`: whether a worker of this container lives, for its health check.

A worker reports to Redis three times in each lease; its last report goes away when it has been silent that long. While
Redis does not answer, no one can know, and a worker that waits for it is well: the check passes.
"""

import asyncio
import socket
import sys

from taskmill.engine.errors import StoreUnavailable, TaskmillError
from taskmill.store.connection.client import connect, store_errors
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.tasks.stats import live_workers

__all__ = ["is_alive", "main"]


async def is_alive(settings: StoreSettings) -> bool:
    """Whether a worker of this machine has reported lately.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    redis = connect(settings)
    try:
        with store_errors():
            reports = await live_workers(redis, settings.keys())
    finally:
        await redis.aclose()
    return any(report.get("host") == socket.gethostname() for report in reports)


def main() -> int:
    """The exit code of the check."""
    try:
        settings = read_settings(StoreSettings)
        if settings.redis_url is None:
            print("taskmill: TASKMILL_REDIS_URL is not set.", file=sys.stderr)
            return 2
        return 0 if asyncio.run(is_alive(settings)) else 1
    except StoreUnavailable:
        return 0
    except TaskmillError as exc:
        print(f"taskmill: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
