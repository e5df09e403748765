"""Pages in a real Chromium use the server directly: the Inspector's and official clients, in both eras."""

from pathlib import Path
from typing import Any

import pytest

from tests.hosts.browser.browsers import PARTS, BrowserPrograms, row_of, run_browser
from tests.hosts.installation import CannotInstall
from tests.hosts.scenarios import Verdict

SECONDS = 3
REQUEST = {
    "method": "POST",
    "headers": {"mcp-protocol-version": "2025-11-25"},
    "body": '{"method": "tools/call", "params": {"name": "survey"}}',
}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_pages_of_an_allowed_origin_use_the_server_and_others_cannot(tmp_path: Path) -> None:
    """A browser is no package of ours: where there is none, this is skipped, and the end of the run says so."""
    try:
        programs = BrowserPrograms()
    except CannotInstall as exc:
        pytest.skip(f"NO PAGE WAS OPENED IN A BROWSER: {exc}")
    rows = await run_browser(programs, SECONDS, tmp_path)
    assert [str(row) for row in rows if row.is_wrong] == []
    assert [row.host for row in rows] == list(PARTS)


def test_a_machine_without_a_browser_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(CannotInstall, match="apt-get install chromium-headless-shell"):
        BrowserPrograms()


API = {"saw": "api", "status": 404}


def shown(name: str, *lines: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    return {"name": name, "requests": [REQUEST], "lines": list(lines), "error": error}


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (shown("inspector-plain", {"saw": "result", "progress": 3}), Verdict.RIGHT),
        (shown("inspector-plain", error="Timeout 60000ms exceeded"), Verdict.WRONG),
        (shown("inspector-plain", {"saw": "result", "progress": 0}), Verdict.WRONG),
        (shown("inspector-task", {"saw": "result", "progress": 3}), Verdict.WRONG),
        (shown("sdk-legacy", API, *[{"saw": "progress"}] * 3, {"saw": "result", "result": "21 jars"}), Verdict.RIGHT),
        (shown("sdk-legacy", API, *[{"saw": "progress"}] * 3, {"saw": "result", "result": "no jars"}), Verdict.WRONG),
        (shown("sdk-legacy", *[{"saw": "progress"}] * 3, {"saw": "result", "result": "21 jars"}), Verdict.WRONG),
        (shown("sdk-legacy", {"saw": "error", "error": "Failed to fetch"}), Verdict.WRONG),
        (shown("sdk-legacy"), Verdict.WRONG),
    ],
)
def test_a_part_is_judged_by_what_the_page_showed(part: dict[str, Any], verdict: Verdict) -> None:
    assert row_of(part, SECONDS).verdict is verdict
