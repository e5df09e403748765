"""Builds the documentation as a site, from the Markdown as it stands in the repository: README.md is its first page.

`python scripts/docs_site.py [ROOT] [OUT]`, in the environment that scripts/docs-site makes. Pages keep their places, so
a link that works in the repository works in the site. A link or anchor that leads nowhere is an error.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parents[1]
COPIED = ("*.md", "LICENSE", "docs/**/*.md", "docs/**/*.svg", "docs/**/*.png", "examples/*.md", "examples/*.py")
FIRST = "README.md"
LINK = re.compile(r"\]\(([^)#:\s]+\.md)(?:#[^)]*)?\)")
SETTINGS = {
    "project": "Taskmill",
    "extensions": ["myst_parser"],
    "root_doc": FIRST.removesuffix(".md"),
    "source_suffix": {".md": "markdown"},
    "exclude_patterns": [],
    "myst_heading_anchors": 6,  # the anchors that GitHub makes, too
    "highlight_language": "text",
    "html_theme": "furo",  # fonts of the reader's system, nothing from other hosts
    "html_title": "Taskmill",
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
}


def stage(root: Path, source: Path) -> None:
    """Copy what the site is made of; the navigation has the pages in the order of README.md."""
    shutil.rmtree(source, ignore_errors=True)
    for pattern in COPIED:
        for path in root.glob(pattern):
            target = source / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    lifecycle = source / "docs" / "lifecycle.md"
    if lifecycle.exists():  # a diagram for GitHub; without the script of another host it is read as text
        lifecycle.write_text(lifecycle.read_text(encoding="utf-8").replace("```mermaid", "```text"), encoding="utf-8")
    placed: set[Path] = set()
    place(source / FIRST, placed)
    rest = sorted(path for path in source.rglob("*.md") if path.resolve() not in placed)
    add_contents(source / FIRST, rest)


def place(page: Path, placed: set[Path]) -> None:
    """Put the pages that a page is the first to name below it, and theirs below them, if it is an index."""
    placed.add(page.resolve())
    named = [(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))]
    last = [*dict.fromkeys(reversed(named))][::-1]  # the table at the end of README.md has them in order
    children = [path for path in last if path.exists() and path not in placed]
    placed.update(children)
    for child in children:
        if child.name == FIRST:
            place(child, placed)
    add_contents(page, children)


def add_contents(page: Path, children: list[Path]) -> None:
    """A table of contents that only the navigation shows."""
    if children:
        names = [Path(os.path.relpath(child, page.parent)) for child in children]
        lines = "\n".join(str(name.with_suffix("")) for name in names)
        with page.open("a", encoding="utf-8") as file:
            file.write(f"\n\n```{{toctree}}\n:hidden:\n\n{lines}\n```\n")


def build(root: Path, out: Path) -> int:
    """Build the site; the exit code is not 0 if anything was wrong, each problem is printed with its page and line."""
    source = out.with_name(f"{out.name}-source")
    stage(root, source)
    shutil.rmtree(out, ignore_errors=True)
    site = Sphinx(
        srcdir=source,
        confdir=None,
        outdir=out,
        doctreedir=out.with_name(f"{out.name}-doctrees"),
        buildername="html",
        confoverrides=SETTINGS,
        status=None,
        freshenv=True,
        warningiserror=True,
    )
    site.build()
    if site.statuscode == 0:
        shutil.copy2(out / f"{SETTINGS['root_doc']}.html", out / "index.html")
        sys.stdout.write(f"{out / 'index.html'}\n")
    return int(site.statuscode)


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE
    sys.exit(build(root, Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else HERE / "build" / "site"))
