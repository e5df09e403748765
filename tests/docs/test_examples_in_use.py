"""The examples used as their page says: `taskmill call` and `taskmill run`, real workers, real input, real deaths."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.command_line import CommandLine
from tests.support.page_site import PageSite
from tests.support.waiting import WAIT_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = ["quickstart", "tools", "questions", "steps", "failures", "isolation"]
WORKER = "taskmill.cli.main worker"

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """A folder of its own; a dead worker's task is given to the next one after two seconds."""
    with CommandLine(tmp_path, {"TASKMILL_LEASE": "2"}) as command_line:
        yield command_line


def call(cli: CommandLine, example: str, *words: str) -> Popen[str]:
    """`taskmill call` of an example, begun."""
    command = cli.command("call", str(EXAMPLES / example), *words)
    return Popen(command, env=cli.environment, cwd=cli.folder, stdout=PIPE, stderr=PIPE, text=True)


def printed(process: Popen[str]) -> str:
    """What the command prints, once it has ended well."""
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, err
    return out


class TestFetchPages:
    def test_a_killed_worker_fetches_no_page_twice(self, cli: CommandLine) -> None:
        with PageSite(PAGES, rules="User-agent: *\nDisallow: /failures.html\n") as site:
            site.hold_after(3)
            process = call(cli, "fetch_pages.py", "fetch_pages", f"url={site.url}", "folder=pages")
            held = site.until_held()
            cli.kill(WORKER)
            site.release()
            out = printed(process)
        asked = Counter(site.requests)
        assert asked.pop(held) == 2  # it was on its way when the worker died
        assert set(asked.values()) == {1}
        assert "/failures.html" not in asked
        assert "not fetched" in out
        stored = {path.name: path.read_text() for path in (cli.folder / "pages").iterdir()}
        assert stored["steps.html"] == site.pages["/steps.html"]
        assert not [name for name in stored if name.endswith(".part")]

    def test_a_site_that_is_down_is_named_in_the_error(self, cli: CommandLine) -> None:
        with PageSite(PAGES) as site:
            pass
        done = cli.run("call", str(EXAMPLES / "fetch_pages.py"), "fetch_pages", f"url={site.url}", "folder=pages")
        assert done.returncode == 1
        assert f"Cannot reach {site.url}" in done.stderr
