"""The pictures of README.md: what the terminal shows today, and nothing from elsewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.terminal_recording import PICTURE, picture, record

PICTURES = sorted(PICTURE.parent.glob("*.svg"))


@pytest.mark.slow
def test_the_picture_of_a_run_is_what_the_command_shows_today(tmp_path: Path) -> None:
    """The same command, in a terminal, its worker killed at the same page."""
    lines, asked = record(tmp_path)
    assert picture(lines) == PICTURE.read_text(encoding="utf-8"), "run scripts/record-terminal"
    assert sorted(asked.values(), reverse=True)[:2] == [2, 1], "a page was fetched twice that was there already"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_has_words_for_those_who_do_not_see_it_and_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    picture = ElementTree.fromstring(text)
    assert picture.get("role") == "img"
    assert picture.findtext("{http://www.w3.org/2000/svg}title")
    shown = re.sub(r"<text.*?</text>", "", text, flags=re.DOTALL).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "://" not in shown
    assert not re.search(r"@import|@font-face|<script|<image|href", shown)


def test_every_picture_is_shown_in_the_readme_and_says_in_words_what_it_shows() -> None:
    readme = (PICTURE.parents[2] / "README.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"!\[([^\]]{20,})\]\(docs/images/([\w.-]+)\)", readme))
    assert sorted(shown.values()) == [path.name for path in PICTURES]
