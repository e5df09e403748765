"""The picture of a run in README.md: a real `taskmill call` in a terminal, its worker killed in the middle, as SVG.

Run it to write docs/images/run.svg. What differs from run to run - times, process ids, ports, folders - is put in as
the same values each time, so that `tests/docs/test_pictures.py` can compare the picture with a new run.
"""

import io
import re
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.support.command_line import CommandLine, Screen
from tests.support.page_site import DOCS, PageSite

__all__ = ["PICTURE", "picture", "record"]

PICTURE = DOCS / "images" / "run.svg"
EXAMPLE = DOCS.parent / "examples" / "fetch_pages.py"
PAGES = [f"decisions/{path.stem}" for path in sorted((DOCS / "decisions").glob("*.md"))[:12]]
COLUMNS = 100
KILLED_AT, SHOWN_AT = 5, 10
"""Pages that are fetched when the worker is killed, and when the bar is shown again."""
FRAME = r"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>A call whose worker is killed in the middle, and ends with its result all the same</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207)],
)


def record(folder: Path) -> tuple[list[str], Counter[str]]:
    """What the terminal shows, as lines with colours; and how often each page was asked for."""
    with PageSite(PAGES) as site, CommandLine(folder, {"COLUMNS": str(COLUMNS), "TASKMILL_LEASE": "2"}) as cli:
        for name in ("COLORTERM", "FORCE_COLOR", "NO_COLOR"):
            cli.environment.pop(name, None)
        words = ["call", str(EXAMPLE), "fetch_pages", f"url={site.url}", "folder=pages"]
        site.hold_after(KILLED_AT)
        screen = Screen(cli, words, term="xterm-256color")
        try:
            lines = [prompt("taskmill " + " ".join(words))]
            lines.append(bar_at(screen, KILLED_AT))
            site.until_held()
            (worker,) = cli.kill("taskmill.cli.main worker")
            lines.append("\x1b[2m# its worker is killed, from another terminal\x1b[0m")
            lines.append(prompt(f"kill -9 {worker}"))
            screen.wait_for("child.ended")
            site.hold_after(SHOWN_AT + 1)  # the page that was on its way is asked for once more
            bar = bar_at(screen, SHOWN_AT)
            lines += [logged(screen.raw), bar]
            site.release()
            assert screen.end() == 0, screen.shown
            lines += [line for line in screen.raw.rpartition("\x1b[2K")[2].splitlines() if plain(line).strip()]
        finally:
            screen.close()
        return [normalised(line, cli, site) for line in lines], Counter(site.requests)


def prompt(command: str) -> str:
    return f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m"


def bar_at(screen: Screen, pages: int) -> str:
    """The progress bar when so many pages are fetched."""
    percent = f"{pages * 100 // (len(PAGES) + 1)}% "
    screen.wait_for(percent)
    screen.wait_for("\r")  # the rest of the line
    whole = screen.raw.split("\r")[:-1]
    return next(frame for frame in reversed(whole) if percent in plain(frame))


def logged(raw: str) -> str:
    """The log line that a terminal has shown above its bar. Where it wraps depends on its numbers, so it is joined."""
    pieces = re.split(r"[\r\n]+", raw)
    first = next(at for at, piece in enumerate(pieces) if "child.ended" in plain(piece))
    rest = next(at for at, piece in enumerate(pieces) if at > first and "━" in plain(piece))
    return " ".join(piece.rstrip() for piece in pieces[first:rest])


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def normalised(line: str, cli: CommandLine, site: PageSite) -> str:
    """Without what differs from run to run, and without commands to the cursor."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-HJ-Za-ln-z]", "", line)
    for pattern, value in (
        (re.escape(str(cli.folder)), "~"),
        (re.escape(str(DOCS.parent)) + "/", ""),
        (re.escape(site.url), "http://127.0.0.1:8080/"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "2026-12-01T09:30:07.215384Z"),
        (r"[\u2800-\u28ff]", "\u2839"),
        (r"(?<!\d)\d:\d\d:\d\d", ""),
        (r"(kill -9 |pid(?:\x1b\[\d*m)*=(?:\x1b\[\d*m)*)\d+", r"\g<1>4711"),
        (r"(restart_in(?:\x1b\[\d*m)*=(?:\x1b\[\d*m)*)[\d.]+", r"\g<1>0.25"),
    ):
        line = re.sub(pattern, value, line)
    return line.rstrip()


def picture(lines: list[str]) -> str:
    """The lines as SVG: no font and no address from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False, overflow="fold")
    return console.export_svg(title="", theme=THEME, code_format=FRAME, unique_id="run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(picture(record(Path(temporary).resolve())[0]), encoding="utf-8")
