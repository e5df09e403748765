"""README.md and the quickstart, word by word: each command of theirs is typed as it stands, in an empty folder.

`scripts/test` runs this on the built wheel. A command that a page gains needs a row in SEEN. The only changes: a
free port in the place of 8000, and a Redis of the test's own in the place of localhost:6379.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, Screen
from tests.support.redis_server import PrivateRedis, free_port

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CTRL_C = "\x03"

pytestmark = [pytest.mark.slow, pytest.mark.wheel, pytest.mark.timeout(150)]


class Shell(CommandLine):
    """A folder with what the reader has written so far, and a shell that finds the commands of this environment."""

    def __init__(self, folder: Path, page: Path) -> None:
        super().__init__(folder)
        for name in ("TASKMILL_HOME", "TASKMILL_GRACE", "COLUMNS", "PYTHONPATH"):
            self.environment.pop(name, None)
        self.write("server.py", next(text for kind, text in BLOCK.findall(page.read_text()) if kind == "python"))
        self.write("home/bin/pip", f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@"\n').chmod(0o755)
        path = f"{folder}/home/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.port = free_port()
        more = {"PATH": path, "HOME": f"{folder}/home", "TASKMILL_PORT": str(self.port), "PIP_NO_INDEX": "1"}
        self.environment |= more
        self.screens: list[Screen] = []

    def command(self, *words: str) -> list[str]:
        return ["/bin/bash", "-c", re.sub(r"\b8000\b", str(self.port), " ".join(words))]

    def screen(self, line: str) -> closing[Screen]:
        """A terminal in which the line was typed."""
        self.screens.append(Screen(self, [line]))
        return closing(self.screens[-1])


def runs(shell: Shell, line: str) -> None:
    done = shell.run(line)
    assert done.returncode == 0, done.stdout + done.stderr


def is_there(shell: Shell, line: str) -> None:
    """The environment that runs the tests stands for the one that the reader makes."""
    assert sys.prefix != sys.base_prefix


def is_for_docker(shell: Shell, line: str) -> None:
    """tests/test_compose.py looks at what it reads; there is no Docker here."""
    assert (ROOT / "docker-compose.yml").exists()


def gives_checksums(shell: Shell, line: str) -> None:
    digest = hashlib.sha256((shell.folder / "server.py").read_bytes()).hexdigest()
    assert json.loads(shell.run(line).stdout) == {"server.py": digest}
    with shell.screen(line) as screen:
        screen.wait_for(digest)
        assert screen.end() == 0


def counts_with_a_bar(shell: Shell, line: str) -> None:
    with shell.screen(line) as screen:
        screen.wait_for("━")
        screen.wait_for("10% counted 2")
        screen.wait_for("counted to 20")
        assert screen.end() == 0
    assert (shell.folder / ".taskmill").is_dir()
    with shell.screen(line) as screen:
        screen.wait_for("counted 1")
        screen.type(CTRL_C)
        screen.wait_for("Cancel the task, or detach and leave it running? [c/d]")
        screen.type("c\n")
        screen.end()


def serves(shell: Shell, line: str) -> None:
    with shell.screen(line) as screen:
        screen.wait_for(f"http://127.0.0.1:{shell.port}/mcp")
        screen.type(CTRL_C)
        assert screen.end() == 0


def counts_again_when_its_worker_is_killed(shell: Shell, line: str) -> None:
    """Within the lease of 15 seconds and a second; the time for a process to start comes to that."""
    with shell.screen("taskmill run server.py") as server:
        server.wait_for("tools: count")
        with shell.screen(line) as screen:
            screen.wait_for("10% counted 2")
            (worker,) = shell.kill("taskmill.cli.main worker")
            assert re.search(rf"worker=\S+-{worker}-\S+", server.shown), "the page says where the process id stands"
            screen.wait_for(" 5% counted 1")


def configures(shell: Shell, line: str) -> None:
    with shell.screen(line) as screen:
        screen.wait_for("[y/N]")
        screen.type("y\n")
        assert screen.end() == 0
    (entry,) = json.loads((shell.folder / ".mcp.json").read_text())["mcpServers"].values()
    assert os.access(entry["command"], os.X_OK)
    assert entry["args"][-1] == str(shell.folder / "server.py")


def uses_the_redis(shell: Shell, line: str) -> None:
    with PrivateRedis(port=str(free_port())) as redis:
        line = line.replace("localhost:6379", f"localhost:{redis.port}")
        if line.startswith("taskmill doctor"):
            runs(shell, line)
            return
        with shell.screen(line) as screen:
            screen.wait_for("tools: " if line.startswith("taskmill serve") else "worker.started")
            screen.type(CTRL_C)
            assert screen.end() == 0


SEEN: dict[str, Callable[[Shell, str], None]] = {
    r"python -m venv \.venv && \. \.venv/bin/activate": is_there,
    r"pip install taskmill": runs,
    r"taskmill call server\.py checksums folder=\.": gives_checksums,
    r"taskmill call server\.py count to=20": counts_with_a_bar,
    r"taskmill call count to=20 --url http://127\.0\.0\.1:8000/mcp": counts_again_when_its_worker_is_killed,
    r"taskmill run server\.py": serves,
    r"taskmill install claude-code server\.py": configures,
    r"taskmill (serve|worker|doctor)( server\.py)? +--redis-url .*": uses_the_redis,
    r"docker compose up .*": is_for_docker,
}


def commands() -> Iterator[tuple[Path, str]]:
    """Every line of every block that names no language: a command, maybe with a comment."""
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            yield from ((page, line) for line in text.splitlines() if not kind and line.strip())


@pytest.mark.parametrize(("page", "line"), [pytest.param(*one, id=f"{one[0].stem}: {one[1]}") for one in commands()])
def test_a_command_of_a_page_does_what_the_page_says(page: Path, line: str, tmp_path: Path) -> None:
    bare = re.sub(r"\s+#.*", "", line)
    check = next((check for pattern, check in SEEN.items() if re.fullmatch(pattern, bare)), None)
    assert check is not None, f"{page.name} has a command that no one has typed yet: {line}"
    with Shell(tmp_path, page) as shell:
        check(shell, line)
        assert [screen.shown for screen in shell.screens if "Traceback" in screen.shown] == []


def test_python_starts_the_server_of_the_quickstart_too(tmp_path: Path) -> None:
    with Shell(tmp_path, PAGES[1]) as shell:
        with (tmp_path / "server.py").open("a") as file:
            file.write('\nmcp.run("http")\n')
        serves(shell, "python server.py")
