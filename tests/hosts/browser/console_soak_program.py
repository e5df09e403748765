"""Keeps pages open in Chromium and measures them: `console_soak_program.py CHROMIUM LOGIN STEPS SECONDS NAME=PATH ...`.

LOGIN is an address that logs in. Each of the STEPS, SECONDS apart, is a line of JSON: what a page uses after its
garbage was collected, by `NAME: figure`. Runs in the environment of Playwright, so nothing of the tests is imported.
"""

import json
import sys
import time

from playwright.sync_api import CDPSession, Page, expect, sync_playwright

_FIGURES = {"JSHeapUsedSize": "heap", "Nodes": "nodes", "JSEventListeners": "listeners", "Documents": "documents"}
"""As the DevTools protocol calls them -> as the report does."""


def main() -> None:
    """Open each page once, and look at them in even steps."""
    chromium, login, steps, seconds, *named = sys.argv[1:]
    paths = dict(one.split("=", 1) for one in named)
    base = login.partition("/login")[0]
    with sync_playwright() as playwright:
        # The sandbox needs rights that containers lack; only our own pages are opened.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context()
        first = context.new_page()
        first.goto(login)
        first.wait_for_url("**/console/")
        first.close()
        pages = {name: context.new_page() for name in paths}
        for name, page in pages.items():
            page.goto(base + paths[name])
        sessions = {name: measured(page) for name, page in pages.items()}
        began = time.monotonic()
        for step in range(int(steps)):
            left = began + step * float(seconds) - time.monotonic()
            next(iter(pages.values())).wait_for_timeout(max(0.0, left) * 1000)
            figures = {f"{name}: {what}": value for name, cdp in sessions.items() for what, value in used(cdp).items()}
            print(json.dumps(figures), flush=True)
        for name, page in pages.items():
            expect(page, f"{name} was left").to_have_url(base + paths[name])
        browser.close()


def measured(page: Page) -> CDPSession:
    """What `used` asks about a page that was opened."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.enable")
    return session


def used(session: CDPSession) -> dict[str, float]:
    """What the page uses, without garbage."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {name: metrics[its] for its, name in _FIGURES.items()}


if __name__ == "__main__":
    main()
