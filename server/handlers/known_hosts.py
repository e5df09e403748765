"""When calls of known hosts are handed off: the one table by `clientInfo.name`.

A host has a row when its call timeout is known from its source or documentation, or was measured: by others who
published it, or by `scripts/hosts` ("measured"). Each row names the source. Nothing is guessed: unknown hosts get the
default.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["KNOWN_HOSTS", "HostTable", "KnownHost"]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """What is known of a host."""

    handoff_after: float | None
    """Seconds after which a call is handed off, well below the host's call timeout; None = never."""
    follows_tasks: bool = False
    """It makes tasks of calls by itself (2025-11-25), so it needs no follow-up tools."""
    newer: tuple[tuple[int, ...], float | None] | None = None
    """From this version on the seconds are others; None = all versions are alike."""

    def of_version(self, version: str) -> "KnownHost":
        """The row for one version of the host. A version that is no number is taken for an old one."""
        if self.newer is None or _numbers(version) < self.newer[0]:
            return self
        return replace(self, handoff_after=self.newer[1], newer=None)


_ANY = KnownHost(None)

KNOWN_HOSTS: Mapping[str, KnownHost] = {
    # MCP_TOOL_TIMEOUT is 10^8 ms; an idle clock of 300 s (HTTP) that progress resets: anthropics/claude-code 93143.
    "claude-code": _ANY,
    # Cuts at 240 s today and at 60 s in older builds, progress or not: anthropics/claude-code 44032, 91898, 22542.
    "claude-ai": KnownHost(50),
    # 60 s, no progress token: anthropics/claude-code 58687.
    "local-agent-mode-*": KnownHost(50),
    "claude-desktop-3p": KnownHost(50),
    # 300 s by claude.com/docs/connectors/faq, cut at 150 to 240 s when measured, and no progress token.
    "Anthropic/ClaudeAI": KnownHost(50),
    # Cut at 119.8 s when measured; other suffixes of the name have other limits.
    "openai-mcp": KnownHost(50),
    "openai-mcp (ChatGPT)": KnownHost(50),
    # Cut at 59.8 s, and then the call is made again.
    "openai-mcp (Responses API)": KnownHost(45),
    # openai/codex, `tool_timeout_sec`: 60 by its documentation; 300 s measured with 0.171, progress does not count.
    "codex-mcp-client": KnownHost(50, newer=((0, 171), 240)),
    # No timer on requests, tasks of 2025-11-25: microsoft/vscode, mcpServerRequestHandler.ts.
    "Visual Studio Code": KnownHost(None, follows_tasks=True),
    "Visual Studio Code - Insiders": KnownHost(None, follows_tasks=True),
    "Code - OSS": KnownHost(None, follows_tasks=True),
    # 60 s, no progress token: cline/cline, McpHub.ts.
    "Cline": KnownHost(50),
    "@cline/core": KnownHost(50),
    # 60 s, progress does not count: RooCodeInc/Roo-Code 10478.
    "Roo Code": KnownHost(50),
    "Roo-Code": KnownHost(50),
    # 60 s, a fixed timer: zed, crates/context_server/src/client.rs.
    "Zed": KnownHost(50),
    # 300 s: aaif-goose/goose 8295.
    "goose*": KnownHost(240),
    # 600 s, sends a token but progress does not count: google-gemini/gemini-cli, mcp-client.ts.
    "gemini-cli-mcp-client": KnownHost(540),
    # 600 s, measured: made from Gemini CLI.
    "qwen-cli-mcp-client*": KnownHost(540),
    # The TypeScript SDK's 60 s: continuedev/continue, MCPConnection.ts.
    "continue-client": KnownHost(50),
    "continue-cli-client": KnownHost(50),
    # 30 s by its documentation: danny-avila/LibreChat, MCPManager.ts.
    "@librechat/api-client": KnownHost(22),
    # 60 s: n8n, the client node's utils.ts.
    "@n8n/*": KnownHost(50),
    # 30 s by its documentation, more by its source: github/copilot-cli 1535.
    "github-copilot-developer": KnownHost(22),
    # None met in 200 s without a word, measured with 1.0.102.
    "copilot-cli": _ANY,
    # 60 s: Amazon-Q-Developer/amazon-q-eclipse 556.
    "Q-DEV-CLI": KnownHost(50),
    "q-cli": KnownHost(50),
    # 20 s by default.
    "spring-ai-mcp-client*": KnownHost(14),
    # No limit of their own.
    "ai-sdk-mcp-client": _ANY,
    # Progress resets the limit: modelcontextprotocol/inspector, inspectorClient.ts; anomalyco/opencode 32477.
    "mcp-inspector": _ANY,
    "opencode": _ANY,
    # 60 s, measured with 2.12.
    "inspector-cli": KnownHost(50),
}
"""`mcp` is not in it: the Python SDK calls itself so unless its user chooses a name, so any host and any limit may be
behind it."""
OTHER_HOST = "other"
"""Label of hosts that have no row."""
_BRIDGE = re.compile(r" \(via .*")
"""What mcp-remote and its like put behind the name of the host that they connect."""


class HostTable:
    """What is known of hosts, and what an author says of them, which counts more."""

    def __init__(self, own: Mapping[str, float | None] | None = None) -> None:
        """`own`: seconds until a hand-off by name, None = never; a trailing `*` matches any rest."""
        self._own = {name: KnownHost(handoff_after) for name, handoff_after in (own or {}).items()}

    def find(self, name: str | None, version: str = "") -> KnownHost | None:
        """What is known of the host of that name and version, None = nothing."""
        if not name:
            return None
        # The whole name first: an author may mean a host behind a bridge and no other.
        for known in (self._own, KNOWN_HOSTS):
            row = _row(name, known) or _row(_BRIDGE.sub("", name), known)
            if row is not None:
                return known[row].of_version(version)
        return None

    def label(self, name: str) -> str:
        """One word for the host of that name, of as many as there are rows; `other` where nothing is known of it."""
        for known in (self._own, KNOWN_HOSTS):
            row = _row(name, known) or _row(_BRIDGE.sub("", name), known)
            if row is not None:
                return "-".join(row.removesuffix("*").split()).rstrip("-/") or OTHER_HOST
        return OTHER_HOST


def _row(name: str, known: Mapping[str, KnownHost]) -> str | None:
    """The name of its row: exactly that name, else the longest pattern that matches."""
    if name in known:
        return name
    fits = [pattern for pattern in known if pattern.endswith("*") and name.startswith(pattern[:-1])]
    return max(fits, key=len) if fits else None


def _numbers(version: str) -> tuple[int, ...]:
    """`0.171.0-beta` as (0, 171, 0); () if it does not begin with a number."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()
