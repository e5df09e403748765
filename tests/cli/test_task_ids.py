"""Ids of tasks as people give them: the beginning of one is enough where no other id has it."""

from collections.abc import Mapping
from typing import cast

import pytest

from taskmill.cli.errors import UsageError
from taskmill.cli.tasks.source import Json, TaskSource
from taskmill.cli.tasks.task_ids import full_id, full_ids, short_ids

IDS = ["abcd1111-first", "abcd2222-other", "wxyz3333-third"]


class Listing:
    """A source of these tasks, in pages of one."""

    async def list(self, where: Mapping[str, str], *, cursor: str | None, **_query: object) -> Json:
        assert not where
        number = int(cursor or 0)
        tasks = [{"id": IDS[number], "tool": "dig", "status": "running"}]
        return {"tasks": tasks, "next_cursor": str(number + 1) if number + 1 < len(IDS) else None}


SOURCE = cast("TaskSource", Listing())


async def test_the_beginning_that_one_id_has_is_that_id_on_whichever_page() -> None:
    assert await full_ids(SOURCE, ["wxyz", "abcd2"]) == [IDS[2], IDS[1]]


async def test_a_beginning_that_several_ids_have_lists_them() -> None:
    with pytest.raises(UsageError) as error:
        await full_id(SOURCE, "abcd")
    assert str(error.value) == (
        "2 tasks have an id that begins with 'abcd':\n"
        "    abcd1111-first  dig  running\n"
        "    abcd2222-other  dig  running"
    )


async def test_a_whole_id_and_one_that_no_task_has_stay_as_they_are() -> None:
    assert await full_id(SOURCE, "x" * 43) == "x" * 43
    assert await full_id(SOURCE, "never-seen") == "never-seen"


def test_short_ids_are_as_long_as_tells_them_apart() -> None:
    assert short_ids(["12345678a-", "12345678b-", "x2345678c-"]) == ["12345678a", "12345678b", "x2345678c"]
    assert short_ids(["abcdefghij", "abcdefghij"]) == ["abcdefgh", "abcdefgh"]
    assert short_ids([]) == []
