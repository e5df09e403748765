"""Keys: every family is in the table, and the table is right about which keys may have no TTL."""

import ast

import pytest

from taskmill.store.formats import keys as keys_module
from taskmill.store.formats.keys import Keys
from tests.support.room_imports import ROOMS, fail_on, modules

KEYS = Keys("p")


def test_every_key_is_under_the_prefix_or_is_arqs() -> None:
    built = [
        getattr(KEYS, name)("x")
        for name in dir(KEYS)
        if not name.startswith("_") and callable(getattr(KEYS, name)) and name not in ("placed", "task_of")
    ]
    built += [KEYS.live, KEYS.all, KEYS.fading, KEYS.ended, KEYS.epoch, KEYS.workers, KEYS.secret, KEYS.reconciling]

    assert [key for key in built if not key.startswith(("{p}:", "arq:job:", "arq:in-progress:"))] == []
    assert len(set(built)) == len(built)


def test_a_task_is_known_again_in_its_record_key() -> None:
    assert KEYS.task_of(KEYS.record("abc-_")) == "abc-_"


@pytest.mark.parametrize("stem", sorted(set(keys_module._PER_TASK.values())))
def test_every_key_family_stands_in_the_table(stem: str) -> None:
    documented = stem.replace("{p}", "P ")
    assert f"| {documented}" in (keys_module.__doc__ or "") or f"| channel {documented}" in (keys_module.__doc__ or "")


def test_families_without_a_ttl_are_exactly_those_the_table_calls_so() -> None:
    rows = [row.split("|")[1:-1] for row in (keys_module.__doc__ or "").splitlines() if row.startswith("| ")][2:]
    lasting = {
        family.strip().removeprefix("P ").split("<")[0]
        for family, _, ttl, _ in rows
        if ttl.strip().startswith(("live", "none"))
    }

    assert lasting == set(keys_module.UNEXPIRING)


def test_keys_are_built_from_the_settings_which_know_of_clusters() -> None:
    """a module that built them from the prefix alone would use another slot than the rest of the deployment."""
    builders = {"store/settings.py", "store/scripts.py"}
    problems = [
        f"{module.path}:{node.lineno}"
        for module in modules(*ROOMS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Keys"
    ]
    fail_on([place for place in problems if place.partition(":")[0] not in builders], "Call settings.keys().")
