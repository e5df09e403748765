"""The whole id of the task that `taskmill call --attach` names by its beginning."""

import os
from contextlib import suppress

from taskmill.cli.errors import CommandFailed
from taskmill.cli.settings import redis_for
from taskmill.cli.tasks.http_source import run_over_http
from taskmill.cli.tasks.redis_source import run_over_redis
from taskmill.cli.tasks.source import TaskSource
from taskmill.cli.tasks.task_ids import full_id, is_whole
from taskmill.store.settings import StoreSettings

__all__ = ["attached_id"]

_TOKEN = "TASKMILL_API_OPERATOR_TOKEN"  # noqa: S105 - the name of a variable


async def attached_id(given: str, url: str | None, token: str | None, settings: StoreSettings) -> str:
    """The id of the one task that begins with `given`, at `url` or in the Redis of the settings. `token`: for `url`.

    `given` itself where there is none, or where the server lists no tasks to this caller.

    Raises:
        UsageError: it is too short, or several tasks have such an id.
    """
    found = given

    async def find(source: TaskSource) -> int:
        nonlocal found
        found = await full_id(source, given)
        return 0

    if is_whole(given):
        return given
    if url is None:
        with redis_for(settings) as ready:
            await run_over_redis(find, ready)
        return found
    with suppress(CommandFailed):
        await run_over_http(find, url, token or os.environ.get(_TOKEN))
    return found
