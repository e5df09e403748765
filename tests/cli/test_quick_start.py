"""Commands that need no server do not import one: its imports take two seconds of processor time."""

import gc
import subprocess
import sys

import mcp_types
import pytest
from redis.asyncio import Redis

import taskmill.server
from taskmill.cli.imports import without_collection
from taskmill.server.protocol import errors

HEAVY = ("mcp", "mcp_types", "uvicorn", "starlette", "taskmill.server.task_server", "taskmill.workers.loop")
PROGRAM = """
import sys
from taskmill.cli.main import main
sys.argv = ["taskmill", *sys.argv[1:]]
try:
    main()
finally:
    print("imported:", *sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words", [("--version",), ("--help",), ("tasks", "--help"), ("tasks", "list"), ("tasks", "list", "--json")]
)
def test_commands_about_tasks_import_no_server(redis: Redis, redis_url: str, words: tuple[str, ...]) -> None:
    shown = ("--redis-url", redis_url) if "list" in words else ()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words, *shown], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    imported = done.stderr.partition("imported: ")[2].split()
    assert "taskmill.cli.main" in imported
    assert [name for name in HEAVY if name in imported] == []


def test_the_codes_of_errors_are_the_sdks() -> None:
    names = ("HEADER_MISMATCH", "INVALID_REQUEST", "METHOD_NOT_FOUND", "INVALID_PARAMS", "INTERNAL_ERROR")

    assert {name: getattr(errors, name) for name in names} == {name: getattr(mcp_types, name) for name in names}


def test_a_name_that_the_server_package_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"'taskmill\.server' has no attribute 'Nothing'"):
        _ = taskmill.server.Nothing


def test_garbage_is_collected_again_after_imports() -> None:
    with without_collection():
        assert not gc.isenabled()

    assert gc.isenabled()
