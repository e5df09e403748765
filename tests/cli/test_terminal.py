"""`taskmill call` at a terminal: the progress bar, questions of the tool, and the question after Ctrl-C."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, Screen
from tests.support.waiting import eventually

CTRL_C = "\x03"
CTRL_D = "\x04"
CHOICE = "Cancel the task, or detach and leave it running? [c/d]"
Start = Callable[..., Screen]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with CommandLine(tmp_path_factory.mktemp("terminal")).serving() as command_line:
        yield command_line


@pytest.fixture
def start(cli: CommandLine) -> Iterator[Start]:
    """Start a call in a terminal."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(
            closing(Screen(cli, ["call", "--url", cli.environment["TEST_URL"], *words]))
        )


def attached(cli: CommandLine, task_id: str) -> str:
    done = cli.run("call", "--url", cli.environment["TEST_URL"], "--attach", task_id)
    return done.stdout or done.stderr


def named_task(screen: Screen) -> str:
    return screen.shown.split("--attach ")[1].split()[0]


def test_a_bar_shows_the_percentage_and_the_words(cli: CommandLine, start: Start) -> None:
    screen = start("dig", "gate=bar")
    screen.wait_for("50% half of the hole")
    assert "━" in screen.shown
    (cli.folder / "bar").touch()
    screen.wait_for("dug")
    assert screen.end() == 0


def test_questions_are_asked_one_line_a_property(start: Start) -> None:
    screen = start("greet")
    screen.wait_for("Who is there?")
    screen.wait_for("Your name: ")
    screen.type("Ada\n")
    screen.wait_for("Age (30): ")
    screen.type("old\n")
    screen.wait_for("Please give a whole number.")
    screen.type("36\n")
    screen.wait_for("Vip [y/n]: ")
    screen.type("y\n")
    screen.wait_for("accept name='Ada' age=36 vip=True")
    assert screen.end() == 0


def test_an_empty_answer_declines(start: Start) -> None:
    screen = start("greet")
    screen.wait_for("Your name: ")
    screen.type("\n")
    screen.wait_for("decline None")
    assert screen.end() == 0


def test_the_end_of_input_cancels_the_question(start: Start) -> None:
    screen = start("greet")
    screen.wait_for("Your name: ")
    screen.type(CTRL_D)
    screen.wait_for("cancel None")
    assert screen.end() == 0


def test_ctrl_c_can_cancel_the_task(cli: CommandLine, start: Start) -> None:
    screen = start("dig", "gate=never")
    screen.wait_for("half of the hole")
    screen.type(CTRL_C)
    screen.wait_for(CHOICE)
    screen.type("what?\n")
    screen.wait_for(CHOICE)
    screen.type("c\n")
    screen.wait_for("The task was cancelled.")
    assert screen.end() == 130


@pytest.mark.parametrize("answer", ["d\n", CTRL_C, CTRL_D], ids=["d", "ctrl-c", "ctrl-d"])
def test_ctrl_c_can_leave_the_task_running(cli: CommandLine, start: Start, answer: str) -> None:
    gate = f"left-{ord(answer[0])}"
    screen = start("dig", f"gate={gate}")
    screen.wait_for("half of the hole")
    screen.type(CTRL_C)
    screen.wait_for(CHOICE)
    screen.type(answer)
    screen.wait_for("The task continues.")
    assert screen.end() == 130
    (cli.folder / gate).touch()
    assert attached(cli, named_task(screen)) == "dug\n"


def test_ctrl_c_at_a_question_asks_about_the_task(cli: CommandLine, start: Start) -> None:
    screen = start("greet")
    screen.wait_for("Your name: ")
    screen.type(CTRL_C)
    screen.wait_for(CHOICE)
    screen.type("d\n")
    assert screen.end() == 130
    again = start("--attach", named_task(screen))
    again.wait_for("Your name: ")
    again.type("\n")
    again.wait_for("decline None")
    assert again.end() == 0


def test_a_detached_task_of_a_local_stack_continues(tmp_path: Path) -> None:
    with CommandLine(tmp_path) as command_line:
        screen = Screen(command_line, ["call", "server.py", "dig", "gate=gate"])
        with closing(screen):
            screen.wait_for("half of the hole")
            screen.type(CTRL_C)
            screen.wait_for(CHOICE)
            screen.type("d\n")
            assert screen.end() == 130
            assert len(command_line.processes("taskmill.cli.main worker")) == 1
            assert not command_line.processes("taskmill.cli.main serve")
            (command_line.folder / "gate").touch()
            done = command_line.run("call", "--attach", named_task(screen), "server.py")
            assert (done.returncode, done.stdout) == (0, "dug\n")


def test_ctrl_c_before_there_is_a_task_ends_everything(tmp_path: Path) -> None:
    with CommandLine(tmp_path) as command_line:
        with closing(Screen(command_line, ["call", "server.py", "dig", "gate=gate"])) as screen:
            screen.wait_for("starting")
            eventually(lambda: command_line.processes("taskmill.cli.main worker"))
            screen.type(CTRL_C)
            assert screen.end() == 130
        assert command_line.processes() == {}


def test_a_task_that_completes_while_ctrl_c_asks_gives_its_result(cli: CommandLine, start: Start) -> None:
    screen = start("dig", "gate=meanwhile")
    screen.wait_for("50% half of the hole")
    screen.type(CTRL_C)
    screen.wait_for(CHOICE)
    (cli.folder / "meanwhile").touch()
    screen.wait_for("dug")
    assert screen.end() == 0
    assert "cancelled" not in screen.shown


def test_a_log_line_of_the_command_takes_the_place_of_the_bar(tmp_path: Path) -> None:
    """The bar is erased first, and drawn again below the line."""
    with (
        CommandLine(tmp_path) as command_line,
        closing(Screen(command_line, ["call", "server.py", "dig", "gate=gate"])) as screen,
    ):
        screen.wait_for("50% half of the hole")
        command_line.kill("taskmill.cli.main worker")
        screen.wait_for("child.ended")
        line = re.split(r"[\r\n]", screen.shown.partition("child.ended")[0])[-1]
        assert "half of the hole" not in line
