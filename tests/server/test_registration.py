"""Policies at the moment a module is imported: what cannot work is refused there, and the tool is named."""

from typing import Any

import pytest
from tenacity import wait_exception, wait_exponential, wait_fixed

from taskmill.engine.errors import PolicyError
from taskmill.server import TaskConfig, TaskServer


def declare(**policy: Any) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Tests")

    @mcp.tool(task=TaskConfig(**policy))
    async def convert(path: str) -> str:
        """Converts a file."""
        return path

    return mcp


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({"deadline": 5, "timeout": 10}, "deadline=5 is shorter than timeout=10"),
        ({"retries": 3, "retry_on": ()}, "no error may be tried again"),
        ({"retries": 1, "backoff": wait_fixed(60), "deadline": 30}, "backoff waits 60 s before the first retry"),
        ({"memory_limit": 10**9}, "memory_limit needs isolation='process'"),
        ({"backoff": wait_exception(lambda _: 1.0)}, "backoff=wait_exception looks at the error"),
    ],
    ids=["deadline", "retry_on", "backoff", "memory", "strategy"],
)
def test_a_policy_that_contradicts_itself_is_refused_at_import_and_names_the_tool(
    policy: dict[str, Any], advice: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        declare(**policy)
    assert str(refused.value).startswith("Tool 'convert': ")
    assert advice in str(refused.value)


def test_a_tool_whose_policy_is_refused_is_no_tool_at_all() -> None:
    mcp: TaskServer[Any] = TaskServer("Tests")
    with pytest.raises(PolicyError):
        mcp.add_tool(abs, "convert", task=TaskConfig(deadline=5, timeout=10))

    assert mcp._tool_manager.get_tool("convert") is None


def test_one_name_instead_of_a_list_of_claims_is_refused() -> None:
    """Its letters would be taken for names, and no claim would ever be seen."""
    with pytest.raises(PolicyError, match=r"visible_claims must be a list of names, such as \['email'\]"):
        TaskServer("Tests", visible_claims="email")


def test_a_strategy_of_tenacity_is_asked_for_each_attempt() -> None:
    mcp = declare(retries=4, backoff=wait_exponential(multiplier=1, max=6))

    policy = mcp.policies()["convert"]

    waits = [policy.retry_delay(failures) for failures in (1, 2, 3, 4)]
    assert [wait.total_seconds() for wait in waits if wait is not None] == [1, 2, 4, 6]
