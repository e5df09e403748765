"""What an attempt under way is told, and who hears of it."""

import asyncio

from taskmill.workers.attempts.active import ActiveTask, Stop


async def test_a_wait_that_begins_late_hears_of_an_answer_that_another_wait_has_heard_of() -> None:
    """Two questions of one attempt: the answer to the second comes before it waits, and wakes the first."""
    task = ActiveTask("task", 1, lease=15)
    seen = task.stirs
    first = asyncio.create_task(task.stirred_since(seen))
    await asyncio.sleep(0)
    task.stir()
    await first

    async with asyncio.timeout(1):
        await task.stirred_since(seen)


async def test_a_wait_that_has_seen_everything_goes_on_until_the_attempt_is_told_to_stop() -> None:
    task = ActiveTask("task", 1, lease=15)
    task.stir()
    waiting = asyncio.create_task(task.stirred_since(task.stirs))
    await asyncio.sleep(0)
    assert not waiting.done()

    task.stop(Stop.DRAIN)

    async with asyncio.timeout(1):
        await waiting
