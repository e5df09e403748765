"""Repeats what failed while Redis was unavailable: the one place that decides how long to wait between two attempts."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from taskmill.engine.errors import StoreUnavailable

__all__ = ["retrying", "until_available"]

T = TypeVar("T")
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds."""


def _never(_failures: int) -> bool:
    return False


async def until_available(
    call: Callable[[], Awaitable[T]],
    *,
    gives_up: Callable[[int], bool] = _never,
    longest_pause: float = _LONGEST_PAUSE,
) -> T:
    """What `call` returns, however often the store is unavailable before; `call` must be safe to repeat.

    For work that may be late but must not be lost: a tool that has run for an hour. See `retrying`.
    """
    return await retrying(call, on=StoreUnavailable, gives_up=gives_up, longest_pause=longest_pause)


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    on: type[BaseException] | tuple[type[BaseException], ...],
    unless: Callable[[BaseException], bool] = lambda _error: False,
    gives_up: Callable[[int], bool] = _never,
    longest_pause: float = _LONGEST_PAUSE,
) -> T:
    """What `call` returns, once it does not fail with one of the errors `on`, without those that `unless` is true of.

    The pauses between two attempts grow and are random, so that processes which lost the same Redis do not all come
    back at once. `gives_up`: asked after each failure, with the number of failures; `longest_pause`: seconds.

    Raises:
        BaseException: the last failure, when `gives_up` says so, or any other failure.
    """

    def stops(state: RetryCallState) -> bool:
        return gives_up(state.attempt_number)

    attempts = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, on) and not unless(error)),
        wait=wait_exponential_jitter(multiplier=_FIRST_PAUSE, max=longest_pause),
        stop=stops,
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await call()
    raise AssertionError("the loop ends by returning or raising")
