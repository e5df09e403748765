"""Taskmill for `scripts/scale`: what `taskmill_program.py` does, and `fill QUEUE TOOL COUNT`, `look COUNT`."""

import asyncio
import sys

import taskmill_program as program
from journal import note_first
from pace import paced

from taskmill.engine.principal import ANONYMOUS
from taskmill.engine.record import NewTask
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings


@program.mcp.tool(task=True)
async def doze() -> str:
    """Wait for a twentieth of a second."""
    note_first("started")
    await asyncio.sleep(0.05)
    return "done"


async def fill(queue: str, tool: str, count: int) -> None:
    """Create tasks in a queue, on whichever Redis that is."""
    async with open_store(StoreSettings()) as store:

        async def create() -> None:
            task_id = store.new_id(queue)
            payload = store.pack(task_id, {"arguments": {}}, tool=tool, principal=ANONYMOUS)
            await store.create(NewTask(id=task_id, tool=tool, principal=ANONYMOUS, payload=payload, queue=queue))

        await paced(create, count, 0)


async def look(count: int) -> None:
    """Create a task, and look at it so many times."""
    async with open_store(StoreSettings()) as store:
        task_id = store.new_id("default")
        payload = store.pack(task_id, {"arguments": {}}, tool="nop", principal=ANONYMOUS)
        await store.create(NewTask(task_id, "nop", ANONYMOUS, payload))
        await paced(lambda: store.read(task_id, ANONYMOUS), count, 0)
        await store.cancel(task_id, ANONYMOUS)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    if mode == "fill":
        asyncio.run(fill(words[0], words[1], int(words[2])))
    elif mode == "look":
        asyncio.run(look(int(words[0])))
    else:
        program.main(mode, *words)


if __name__ == "__main__":
    main(*sys.argv[1:])
