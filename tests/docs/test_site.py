"""The site that scripts/docs-site builds: it has every page, its links and anchors lead somewhere, and it loads nothing
from elsewhere.
"""

import os
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CANNOT_INSTALL = 77
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "use": "href"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def build(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script. Where Sphinx cannot be had the test is skipped; in CI it fails."""
    command = [str(ROOT / "scripts" / "docs-site"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_INSTALL:
        if os.environ.get("CI"):
            pytest.fail(f"the site must be built in CI: {done.stderr}")
        pytest.skip(f"THE SITE WAS NOT BUILT: {done.stderr}")
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    done = build(str(ROOT), str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Page(HTMLParser):
    """What a page links to, loads by itself, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors.add(values.get("id") or values.get("name") or "")
        if tag in LOADED and (address := values.get(LOADED[tag])):
            self.loaded.append(address)
        if tag == "a" and (address := values.get("href")):
            self.links.append(address)


page_of = cache(Page)


def test_every_page_of_the_repository_is_in_the_site_and_the_first_is_the_readme(site: Path) -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    wanted = {str(page.relative_to(ROOT).with_suffix(".html")) for page in pages}
    assert wanted - {str(path.relative_to(site)) for path in site.rglob("*.html")} == set()
    assert (site / "index.html").read_text() == (site / "README.html").read_text()


def test_every_link_and_anchor_within_the_site_leads_somewhere(site: Path) -> None:
    broken, checked = [], 0
    for path in site.rglob("*.html"):
        for address in page_of(path).links + page_of(path).loaded:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            checked += 1
            leads = target.is_file() and (
                target.suffix != ".html" or not parts.fragment or unquote(parts.fragment) in page_of(target).anchors
            )
            broken += [] if leads else [f"{path.relative_to(site)}: {address}"]
    assert broken == []
    assert checked > 1000


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    loaded = {address for path in site.rglob("*.html") for address in page_of(path).loaded}
    assert [address for address in loaded if urlsplit(address).netloc] == []
    styles = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert [name for name, text in styles.items() if "url(http" in text or "url(//" in text or "@import" in text] == []


@pytest.mark.parametrize(
    ("link", "leads"),
    [("docs/page.md#here", True), ("docs/no.md", False), ("docs/page.md#no", False), ("no-such-file.py", False)],
)
def test_a_link_that_leads_nowhere_fails_the_build(link: str, leads: bool, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("# A page\n\n## Here\n")
    (tmp_path / "README.md").write_text(f"# First\n\n[Words]({link}), [the page](docs/page.md)\n")
    done = build(str(tmp_path), str(tmp_path / "site"))
    assert (done.returncode == 0) is leads, done.stderr
    assert ("README.md:3: WARNING: " in done.stderr) is not leads
