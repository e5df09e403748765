"""What is known of hosts by name and version, and what an author says of them."""

import pytest

from taskmill.server.handlers.known_hosts import KNOWN_HOSTS, HostTable


def seconds(table: HostTable, name: str | None, version: str = "") -> float | str | None:
    """When a call is handed off; "?" = nothing is known of the host."""
    host = table.find(name, version)
    return "?" if host is None else host.handoff_after


def test_a_row_matches_names_with_their_suffixes() -> None:
    table = HostTable({"mine*": 3.0, "claude-code": 9.0})
    assert seconds(table, "mine 2") == 3.0
    assert seconds(table, "claude-code") == 9.0
    assert seconds(table, "claude-code (via mcp-remote 0.1.37)") == 9.0
    assert seconds(table, "goose-cli") == 240
    assert [seconds(table, name) for name in ("openai-mcp (New)", "", None)] == ["?", "?", "?"]


def test_an_authors_pattern_counts_more_than_an_exact_line_of_the_table() -> None:
    table = HostTable({"codex*": 100, "claude*": None})
    assert seconds(table, "codex-mcp-client", "0.171.0") == 100
    assert seconds(table, "claude-ai") is None


def test_of_two_patterns_of_an_author_the_longer_one_counts() -> None:
    assert seconds(HostTable({"*": 20, "my-*": 40}), "my-host") == 40
    assert seconds(HostTable({"my-*": 40, "*": 20}), "my-host") == 40


@pytest.mark.parametrize("name", ["mcp", "mcp (via mcp-remote 0.1.37)", "mcp (via some-bridge)"])
def test_the_sdks_default_name_tells_nothing(name: str) -> None:
    """Whatever is behind mcp-proxy calls itself so, and the OpenAI Agents SDK, which gives up after five seconds."""
    assert seconds(HostTable(), name) == "?"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0.171.0", 240), ("0.172.0-alpha.1", 240), ("1.0", 240), ("0.170.9", 50), ("0.99.0", 50), ("", 50), ("dev", 50)],
)
def test_codex_waits_longer_since_0_171(version: str, wanted: float) -> None:
    assert seconds(HostTable(), "codex-mcp-client", version) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("inspector-cli", 50), ("copilot-cli", None), ("qwen-cli-mcp-client", 540), ("qwen-cli-mcp-client-tests", 540)],
)
def test_hosts_that_were_measured_have_a_row(name: str, wanted: float | None) -> None:
    assert seconds(HostTable(), name) == wanted


def test_every_hand_off_comes_after_a_time_that_is_worth_it() -> None:
    assert [name for name, host in KNOWN_HOSTS.items() if (host.handoff_after or 60) < 5] == []
