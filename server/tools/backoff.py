"""Makes a tenacity wait strategy a plain function of how many attempts have failed, which is what the engine knows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tenacity import RetryCallState
from tenacity.wait import wait_base

from taskmill.engine.errors import PolicyError
from taskmill.engine.policy import TaskConfig

__all__ = ["plain_backoff"]


def plain_backoff(policy: TaskConfig) -> TaskConfig:
    """The same policy, with nothing of tenacity in it.

    Raises:
        PolicyError: the strategy wants to know more than how many attempts have failed.
    """
    if not isinstance(policy.backoff, wait_base):
        return policy
    return replace(policy, backoff=_function_of(policy.backoff))


def _function_of(strategy: wait_base) -> Callable[[int], float]:
    def wait(failures: int) -> float:
        nothing: Any = None
        state = RetryCallState(retry_object=nothing, fn=None, args=(), kwargs={})
        state.attempt_number = failures
        try:
            return float(strategy(state))
        except (AttributeError, RuntimeError) as exc:
            raise PolicyError(
                f"backoff={type(strategy).__name__} looks at the error; use one that looks at the attempt's number only"
            ) from exc

    return wait
