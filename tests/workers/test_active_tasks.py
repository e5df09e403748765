"""How an active attempt is woken and stopped."""

import asyncio

from taskmill.workers.attempts.active import ActiveTask, Stop


async def test_a_wait_that_begins_late_does_not_miss_a_wake_up_that_another_wait_has_seen() -> None:
    """Two questions of one attempt: the answer to the second comes before it waits, and wakes the first."""
    task = ActiveTask("task", 1, lease=15)
    seen = task.wake_count
    first = asyncio.create_task(task.woken_since(seen))
    await asyncio.sleep(0)
    task.wake()
    await first

    async with asyncio.timeout(1):
        await task.woken_since(seen)


async def test_a_wait_that_has_seen_everything_goes_on_until_the_attempt_is_told_to_stop() -> None:
    task = ActiveTask("task", 1, lease=15)
    task.wake()
    waiting = asyncio.create_task(task.woken_since(task.wake_count))
    await asyncio.sleep(0)
    assert not waiting.done()

    task.stop(Stop.DRAIN)

    async with asyncio.timeout(1):
        await waiting
