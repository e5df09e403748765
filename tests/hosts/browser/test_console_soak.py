"""What `scripts/console-soak` calls a leak; `test_console.py` has its short form in a real browser."""

from tests.hosts.browser.console_soak import Report


def report_of(heap: list[float], listeners: list[float]) -> Report:
    report = Report()
    for of_heap, of_listeners in zip(heap, listeners, strict=True):
        report.add({"overview: heap": of_heap, "overview: listeners": of_listeners, "server: rss": 1e8})
    return report


def test_what_rises_and_falls_is_no_leak() -> None:
    waves = [600_000.0 + 20_000 * (step % 3) for step in range(60)]
    assert report_of(waves, [3] * 60).grown() == []


def test_what_settles_in_the_first_fifth_is_no_leak() -> None:
    assert report_of([400_000.0 + min(step, 10) * 20_000 for step in range(60)], [3] * 60).grown() == []


def test_a_slow_rise_and_one_listener_more_are_leaks() -> None:
    report = report_of([600_000.0 * (1 + step / 500) for step in range(60)], [3.0 + (step > 40) for step in range(60)])
    assert report.grown() == ["overview: heap", "overview: listeners"]
