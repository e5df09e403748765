"""What `scripts/test --fast` chooses."""

from pathlib import Path

import pytest

from tests.support.fast_tests import CORE, LONG, PARTS, ROOMS, ROOT, RULES, choose, rooms_above


def test_a_change_in_the_engine_runs_its_tests_and_the_core_of_all_rooms_on_it() -> None:
    choice = choose(["engine/policy.py"])
    assert rooms_above("engine") == ["store", "workers", "server", "adapters", "cli", "testing"]
    assert choice.reasons["tests/engine"] == "engine/ changed"
    for room in ("store", "workers", "server", "adapters"):
        assert f"tests/{room}" not in choice.reasons
        assert f"tests/{room}/test_{CORE[room][0]}.py" in choice.paths()
    assert "test_policy.py" not in {Path(path).name for path in choice.paths()}, "its folder runs as a whole"


def test_a_module_that_many_tests_import_does_not_choose_them_all() -> None:
    server = [path for path in choose(["engine/principal.py"]).paths() if path.startswith("tests/server/")]
    assert server == [f"tests/server/test_{name}.py" for name in CORE["server"]]


def test_a_change_in_the_store_runs_nothing_of_the_engine() -> None:
    paths = choose(["store/claims/claims.py", "store/lua/claim.lua"]).paths()
    assert "tests/store" in paths
    assert "tests/engine" not in paths
    assert not [path for path in paths if path.startswith("tests/store/")]


def test_a_change_in_cli_stays_in_the_rooms_on_top() -> None:
    paths = choose(["cli/main.py"]).paths()
    assert "tests/cli" in paths
    assert not {path.split("/")[1] for path in paths} & {"engine", "store", "workers", "server"}


def test_a_page_runs_the_tests_of_the_documents_alone() -> None:
    paths = choose(["docs/queues.md"]).paths()
    assert paths == [RULES, *PARTS["docs"]]


def test_a_changed_test_runs_also_where_its_folder_is_left_out() -> None:
    choice = choose(["tests/fuzz/test_stdio.py"])
    assert choice.paths() == [RULES, "tests/fuzz/test_stdio.py"]
    assert "fuzz" not in choice.left_out()
    assert "chaos" in choice.left_out()


def test_what_tests_share_runs_those_that_share_it() -> None:
    assert choose(["tests/server/session_client.py"]).paths() == [RULES, "tests/server"]
    cores = {f"tests/{room}/test_{name}.py" for room, names in CORE.items() for name in names}
    assert cores <= {*choose(["tests/conftest.py"]).paths()}


def test_a_test_that_was_deleted_is_not_run() -> None:
    assert choose(["tests/store/test_no_more.py"]).paths() == [RULES]


def test_a_room_can_be_asked_for() -> None:
    choice = choose([], ["workers"])
    assert choice.reasons["tests/workers"] == "asked for"
    assert choice.paths() == [RULES, "tests/workers"]


@pytest.mark.parametrize("room", ROOMS)
def test_no_change_in_a_room_runs_a_long_folder(room: str) -> None:
    modules = [str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py")]
    assert not {path.split("/")[1] for path in choose(modules).paths()} & {*LONG}


def test_what_is_listed_exists() -> None:
    named = [f"tests/{room}/test_{name}.py" for room, names in CORE.items() for name in names]
    named += [f"tests/{folder}" for folder in LONG] + [path for paths in PARTS.values() for path in paths]
    assert [path for path in named if not (ROOT / path).exists()] == []
