"""Every log line goes to standard error: JSON outside of a terminal, and one format for us and the libraries."""

import json
import subprocess
import sys
from typing import Any

import pytest
import structlog

from taskmill.cli.commands import run_command_line
from taskmill.cli.errors import Failure, print_failure
from taskmill.cli.terminal.escaping import printable
from tests.support.command_line import CommandLine

PROGRAM = """
import logging, sys, warnings
import structlog
from taskmill.cli.logs import LogForm, LogLevel, configure
early = structlog.get_logger()
configure(LogLevel(sys.argv[1]), LogForm(sys.argv[2]))
{}
"""

CRASH = r"""
def f(secret):
    raise ValueError('x\x1b')
try:
    f('hu' + 'sh')
except ValueError:
    early.exception('broke')
"""


def test_a_command_that_is_refused_before_it_has_a_log_prints_its_one_line_and_no_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    monkeypatch.setattr(sys, "argv", ["taskmill", "tasks", "cancel", "--token", "a-token-that-is-secret"])
    try:
        with pytest.raises(SystemExit) as ended:
            run_command_line()
    finally:
        if before is not None:
            structlog.configure(**before)
    line = "taskmill: Name tasks by ID, by --where KEY=VALUE, or all of them by --all.\n"
    assert (ended.value.code, *capsys.readouterr()) == (2, "", line)


def logged(code: str, level: str = "info", form: str = "auto") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code), level, form], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def events(code: str, level: str = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(code, level)]


def test_a_line_is_one_json_object_with_facts_level_and_time() -> None:
    (event,) = events("early.info('task.settled', task_id='x')")
    assert {"event": "task.settled", "task_id": "x", "level": "info"}.items() <= event.items()
    assert event["timestamp"].endswith("Z")


def test_the_level_decides_what_is_written() -> None:
    code = "early.debug('d'); early.info('i'); early.warning('w')"
    assert [event["event"] for event in events(code, "warning")] == ["w"]
    assert [event["event"] for event in events(code, "debug")] == ["d", "i", "w"]


@pytest.mark.parametrize("name", ["mcp.server", "uvicorn.error", "arq.worker"])
def test_libraries_log_in_the_same_format(name: str) -> None:
    (event,) = events(f"logging.getLogger({name!r}).warning('it is %s', 'late')")
    assert {"event": "it is late", "level": "warning", "logger": name}.items() <= event.items()


def test_libraries_never_write_debug_lines() -> None:
    """The protocol's library writes whole messages there, with arguments and results."""
    code = "logging.getLogger('mcp').debug('arguments'); logging.getLogger('mcp').info('fine')"
    assert [event["event"] for event in events(code, "debug")] == ["fine"]
    assert events(code, "info") == []


def test_the_authors_own_loggers_are_shown_at_the_default_level() -> None:
    code = "logging.getLogger('shop').info('sold %s', 3); logging.getLogger('httpx').info('GET'); "
    (event,) = events(code + "logging.getLogger('shop').debug('details')")
    assert {"event": "sold 3", "level": "info", "logger": "shop"}.items() <= event.items()
    assert events("logging.getLogger('shop').info('sold')", "warning") == []


@pytest.mark.parametrize("level", ["WARNING", "Warning"])
def test_a_level_may_be_written_in_upper_case(level: str) -> None:
    assert [event["event"] for event in events("early.info('i'); early.warning('w')", level)] == ["w"]


def test_a_level_in_the_environment_may_be_written_in_upper_case(cli: CommandLine) -> None:
    done = cli.run("doctor", TASKMILL_LOG_LEVEL="DEBUG")
    assert "Invalid value" not in done.stderr
    assert done.returncode in (0, 1)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_begins_with_the_authors_own_line(form: str) -> None:
    code = """
import json
from concurrent.futures import ThreadPoolExecutor
def parse(text):
    return json.loads(text)
future = ThreadPoolExecutor().submit(parse, "[")
early.error("tool.crashed", exc_info=future.exception())
"""
    text = "\n".join(logged(code, form=form))
    trace = json.loads(text)["exception"] if form == "json" else text[text.index("Traceback") :]
    lines = trace.splitlines()
    assert lines[1].endswith("in parse")
    assert "concurrent/futures" not in trace
    assert lines[-1].startswith("json.decoder.JSONDecodeError: ")


def test_a_librarys_error_that_only_wraps_the_authors_is_left_out() -> None:
    code = """
def parse(text):
    raise ValueError(text)
def wrapped():
    try:
        parse("mine")
    except ValueError as exc:
        error = RuntimeError("a library's")
        error.__cause__ = exc
        return error
early.error("tool.crashed", exc_info=wrapped())
"""
    (event,) = events(code)
    assert "a library's" not in event["exception"]
    assert event["exception"].splitlines()[-1] == "ValueError: mine"


def test_the_authors_structlog_lines_have_the_level_of_the_authors_loggers() -> None:
    code = """
configure(LogLevel.WARNING, LogForm.JSON, authors=LogLevel.INFO)
own = structlog.get_logger()
own.debug("d"); own.info("i"); own.bind(a=1).info("bound"); own.log(20, "by number"); own.warning("w")
import taskmill.workers.worker as ours
ours.log.info("called from here")
exec(compile("log.info('from inside'); log.warning('warned')", "worker.py", "exec"), vars(ours))
"""
    assert [event["event"] for event in events(code)] == ["i", "bound", "by number", "w", "called from here", "warned"]


def test_python_warnings_are_log_lines() -> None:
    (event,) = events("warnings.warn('old ways')")
    assert "old ways" in event["event"]


def test_control_characters_are_escaped() -> None:
    code = r"early.info('a\x1b[2Jb', name='c\nd\x9b', left='\u202e')"
    (line,) = logged(code, form="text")
    assert all(char.isprintable() for char in line.replace("\x1b[0m", ""))
    assert r"a\x1b[2Jb" in line
    assert r"c\nd\x9b" in line
    assert json.loads(logged(code)[0])["left"] == "\\u202e"


def test_a_traceback_keeps_its_lines_and_shows_no_variables() -> None:
    lines = logged(CRASH, form="text")
    assert lines[-1] == "ValueError: x\\x1b"
    assert not any("hush" in line for line in lines)


def test_a_failure_keeps_its_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure(Failure("one\ntwo\x1b[31m", 1))
    assert capsys.readouterr() == ("", "taskmill: one\ntwo\\x1b[31m\n")


def test_printable_text_stays_as_it_is() -> None:
    assert printable("Grüße, 世界 🙂") == "Grüße, 世界 🙂"
