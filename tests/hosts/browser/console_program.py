"""Drives Chromium through the console as an operator would: `console_program.py CHROMIUM FOLDER ADDRESS TASK QUESTION`.

ADDRESS logs in. Each line that it prints is a step that was seen to its end, as JSON; a screenshot of each goes to
FOLDER. What a page complains of in the browser's log ends the program. Runs in the environment of Playwright, so
nothing of the tests is imported.
"""

import json
import sys
from pathlib import Path

from console_soak_program import measured, used
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

_WAIT = 30_000


def main() -> None:
    """Log in, look at each page, use each action."""
    chromium, folder, address, task, question = sys.argv[1:]
    base = address.partition("/login")[0]
    with sync_playwright() as playwright:
        # The sandbox needs rights that containers lack; only our own pages are opened.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1100, "height": 800}).new_page()
        page.set_default_timeout(_WAIT)
        expect.set_options(timeout=_WAIT)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def seen(step: str) -> None:
            if complaints:
                sys.exit(f"{step}: the browser complains: {complaints}")
            page.screenshot(path=str(Path(folder, f"{step}.png")))
            print(json.dumps({"seen": step}), flush=True)

        page.goto(address)
        page.wait_for_url("**/console/")
        expect(page.locator(".figures")).to_contain_text("dead letters")
        expect(page.locator("tbody tr", has_text="succeeded").locator("td").nth(1)).to_have_text("0.0")  # it is live
        seen("overview")
        keeps_nothing(page)
        look(page, base)
        seen("pages")
        page.goto(f"{base}/tasks/{task}")
        seen("task")
        # The test reports progress now, and the page shows it without being loaded again.
        expect(page.locator("main")).to_contain_text("half of the jars")
        seen("progress")
        act(page, base, task, question)
        seen("actions")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        seen("login")
        browser.close()


def keeps_nothing(page: Page) -> None:
    """What the live page uses is the same after more updates; what is kept on purpose is seen."""
    session = measured(page)
    updated(page)
    before = used(session)
    for _ in range(2):
        updated(page)
    after = used(session)
    assert (after["listeners"], after["nodes"]) == (before["listeners"], before["nodes"]), (before, after)
    page.evaluate("window.kept = [...document.querySelectorAll('[data-live] > *')]")
    updated(page)
    assert used(session)["nodes"] > after["nodes"], "a leak on purpose"
    page.evaluate("window.kept = null")
    session.detach()


def updated(page: Page) -> None:
    """Return once the live part was replaced."""
    page.evaluate("document.querySelector('[data-live]').firstElementChild.id = 'old'")
    expect(page.locator("#old")).to_have_count(0)


def _is_complaint(message: ConsoleMessage) -> bool:
    return message.type in ("error", "warning")


def look(page: Page, base: str) -> None:
    """Every page, by the keyboard too, and on a phone."""
    page.goto(f"{base}/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for name in ("Tasks", "Dead letters", "Queues", "Schedules", "Webhooks", "Workers", "Settings"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(name)
        expect(page.locator("h1")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Tasks").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    page.locator("select[name=outcome]").select_option("failed")
    page.get_by_label("Tool", exact=True).fill("broken")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(12)
    page.locator("tbody a").first.click()
    expect(page.locator("main")).to_contain_text("too long")
    page.set_viewport_size({"width": 380, "height": 700})
    for path in ("", "/queues", "/schedules", "/webhooks"):
        if path:
            page.goto(base + path)
            expect(page.locator("tbody tr").first).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 380, f"a phone has to scroll sideways: {path} {width}"
    page.set_viewport_size({"width": 1100, "height": 800})


def act(page: Page, base: str, task: str, question: str) -> None:
    """Each action, with its confirmation."""
    page.goto(f"{base}/webhooks")
    expect(page.locator("tbody")).to_contain_text(
        "hooks answered 500 <script>alert(1)</script> \\x1b[31m \\u202egnp.exe"
    )
    page.get_by_role("link", name="Retry count-1").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/retry")
    expect(page.get_by_role("button", name="Retry")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Tried again now")
    expect(page.locator("tbody")).to_contain_text("waiting")

    page.goto(f"{base}/tasks/{task}")
    page.get_by_role("link", name="Open the arguments").click()
    expect(page.locator("pre")).to_contain_text("the upper one")

    page.goto(f"{base}/tasks/{task}")
    page.get_by_role("link", name="Cancel …").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_contain_text("was cancelled")

    page.goto(f"{base}/tasks/{question}")
    page.locator("select[name='field.sure']").select_option("yes")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("status")).to_contain_text("was given")

    page.goto(f"{base}/dead-letters")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Run again …").click()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("status")).to_contain_text("runs again")

    page.goto(f"{base}/queues")
    page.get_by_role("link", name="Pause default").click()
    page.get_by_label("Reason, for others who see it").fill("a test")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("tbody").first).to_contain_text("a test")
    page.get_by_role("button", name="Resume default").click()
    expect(page.get_by_role("status")).to_contain_text("Resumed")

    page.goto(f"{base}/tasks?tool=queued")
    page.get_by_role("link", name="Cancel what the filter finds …").click()
    page.get_by_role("button", name="Cancel 5").click()
    expect(page.locator("h1")).to_have_text("5 cancelled")


if __name__ == "__main__":
    main()
