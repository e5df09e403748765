"""Real hosts, unmodified: a long call, a question, Ctrl-C, `taskmill install`. All of them: `scripts/hosts`."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hosts.installation import CannotInstall, install
from tests.hosts.launchers import LAUNCHERS
from tests.hosts.run import Transport
from tests.hosts.servers import SERVERS
from tests.hosts.table import Row, Wanted, run_hosts

HTTP_AND_STDIO: tuple[Transport, ...] = ("http", "stdio")
WANTED = [
    *(Wanted("claude", transport, "long call") for transport in HTTP_AND_STDIO),
    *(Wanted("claude", transport, "interrupt") for transport in HTTP_AND_STDIO),
    Wanted("claude", "http", "question"),
    *(Wanted(host, "http", name) for host in ("inspector", "inspector-2026") for name in ("long call", "question")),
    *(Wanted("openai-agents", "http", name) for name in ("long call", "question")),
    *(Wanted(host, "installed", "long call") for host in ("codex", "gemini")),
]
WRAPPED = [Wanted("claude", "wrapped", "long call"), Wanted("codex", "wrapped", "long call")]
SECONDS = 6
"""Longer than the five after which the OpenAI Agents SDK gives a call up."""


def programs(of: Sequence[Wanted]) -> dict[str, list[str]]:
    """How each host is started. Where one cannot be had the test is skipped, and in CI it fails."""
    found = {}
    for host in sorted({wanted.host for wanted in of}):
        try:
            found[host] = install(LAUNCHERS[host][0])
        except CannotInstall as exc:
            if os.environ.get("CI"):
                pytest.fail(f"{host} must run in CI, and could not be installed: {exc}")
            pytest.skip(f"{host.upper()} DID NOT RUN: {exc}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_real_hosts_get_their_results(tmp_path: Path) -> None:
    """Installing them the first time takes longer than the runs."""
    rows: list[Row] = await run_hosts(programs(WANTED), WANTED, SECONDS, tmp_path, on_row=print)
    assert [str(row) for row in rows if row.is_wrong] == []
    assert len(rows) == len(WANTED)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_entry_that_a_host_has_is_wrapped_and_given_back_as_it_was(tmp_path: Path) -> None:
    """The host's own command writes it. The server knows nothing of Taskmill; all of them and longer:
    `scripts/hosts --server foreign`."""
    server = SERVERS["foreign"]
    rows = await run_hosts(programs(WRAPPED), WRAPPED, SECONDS, tmp_path, on_row=print, server=server)
    assert [str(row) for row in rows if row.is_wrong] == []
    assert len(rows) == len(WRAPPED)
