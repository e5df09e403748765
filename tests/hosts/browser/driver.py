"""Drives Chromium through the parts of an order and prints what each has shown, as JSON lines: `driver.py ORDER.json`.

Run by the Python of the environment that has Playwright, so it imports nothing of the tests. The order has:

    chromium   the browser's program
    folder     where pictures of failures go
    server     the address of the MCP endpoint
    parts      a list of {"name", "kind", "page", ...}, see the functions by kind below

A line is {"name": ..., "requests": [...], "lines": [...], "error": text or null}: the requests that the page sent to
the server, what the page printed, and why the part failed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

_WAIT = 60_000
"""Milliseconds for anything that a page should show."""


def open_inspector(page: Page, part: dict[str, Any]) -> None:
    """The Inspector's page, with the direct connection chosen, as a person leaves it."""
    page.add_init_script("localStorage.setItem('lastConnectionType', 'direct')")
    page.goto(f"{part['page']}/?transport=streamable-http&serverUrl={part['server']}")
    page.get_by_role("button", name="Connect").click()


def choose_tool(page: Page, description: str) -> None:
    """Connected: list the tools and choose one."""
    page.get_by_text("Connected", exact=True).wait_for()
    page.get_by_role("tab", name="Tools").click()
    page.get_by_role("button", name="List Tools").click()
    page.get_by_text(description).click()


def inspector_call(page: Page, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the slow tool, as a plain call or `as_task`; the notifications that the page lists at its end."""
    open_inspector(page, part)
    choose_tool(page, "Surveys the shelves")
    page.get_by_role("spinbutton").fill(str(part["seconds"]))
    if part["as_task"]:
        page.locator("#run-as-task").click()
    page.get_by_role("button", name="Run Tool").click()
    page.get_by_text(part["wanted"]).first.wait_for()
    shown = {name: page.get_by_text(f"notifications/{name}").count() for name in ("progress", "tasks/status")}
    return [{"saw": "result", **shown}]


def inspector_question(page: Page, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the tool that asks, and answer in the form that the page shows."""
    open_inspector(page, part)
    choose_tool(page, "Asks a yes/no question")
    page.get_by_role("button", name="Run Tool").click()
    page.get_by_text("Go on with the second half?").wait_for()
    page.get_by_role("checkbox").click()
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("tab", name="Tools").click()
    page.get_by_text("accept").first.wait_for()
    return [{"saw": "result"}]


def inspector_refused(page: Page, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Opened from an origin that the server does not know, the page cannot connect."""
    open_inspector(page, part)
    page.get_by_text("Connection Error").first.wait_for()
    return [{"saw": "refused"}]


def program(page: Page, part: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a client program of the tests in a page; what it printed."""
    lines: list[dict[str, Any]] = []
    page.on("console", lambda message: lines.append(json.loads(message.text)) if message.text[:1] == "{" else None)
    page.goto(f"{part['page']}/client.html#{json.dumps(part['run'])}")
    page.wait_for_function("document.title !== 'running'")
    return lines


KINDS = {each.__name__: each for each in (inspector_call, inspector_question, inspector_refused, program)}


def main() -> None:
    """Each part has a browser context of its own, which is a browser that was never used."""
    order = json.loads(Path(sys.argv[1]).read_text())
    with sync_playwright() as playwright:
        # The sandbox needs rights that containers lack; only our own pages are opened.
        browser = playwright.chromium.launch(executable_path=order["chromium"], args=["--no-sandbox"])
        for part in order["parts"]:
            page = browser.new_context().new_page()
            page.set_default_timeout(_WAIT)
            requests: list[dict[str, Any]] = []

            def keep(request: Any, kept: list[dict[str, Any]] = requests) -> None:
                if request.url.startswith(order["server"]):
                    kept.append({"method": request.method, "headers": request.headers, "body": request.post_data})

            page.on("request", keep)
            lines, error = [], None
            try:
                lines = KINDS[part["kind"]](page, part | {"server": order["server"]})
            except Error as exc:
                error = str(exc)
                page.screenshot(path=str(Path(order["folder"], f"{part['name']}.png")))
            print(json.dumps({"name": part["name"], "requests": requests, "lines": lines, "error": error}), flush=True)
            page.context.close()
        browser.close()


main()
