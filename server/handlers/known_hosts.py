"""When calls of known hosts are handed off: the one table by `clientInfo.name`.

A host has a row when its call timeout is known from its source or documentation, or was measured and published; each
row names the source. Nothing is guessed: unknown hosts get the default.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KNOWN_HOSTS", "KnownHost", "host_of", "hosts_with"]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """What is known of a host."""

    hand_off_after: float | None
    """Seconds after which a call is handed off, well below the host's call timeout; None = never."""
    follows_tasks: bool = False
    """It makes tasks of calls by itself (2025-11-25), so it needs no follow-up tools."""


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
    # openai/codex, `tool_timeout_sec`: 60 by its documentation.
    "codex-mcp-client": KnownHost(50),
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
    # The TypeScript SDK's 60 s: continuedev/continue, MCPConnection.ts.
    "continue-client": KnownHost(50),
    "continue-cli-client": KnownHost(50),
    # 30 s by its documentation: danny-avila/LibreChat, MCPManager.ts.
    "@librechat/api-client": KnownHost(22),
    # 60 s: n8n, the client node's utils.ts.
    "@n8n/*": KnownHost(50),
    # 30 s by its documentation, more by its source: github/copilot-cli 1535.
    "github-copilot-developer": KnownHost(22),
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
    # The Python SDK's default name; its calls have no limit.
    "mcp": _ANY,
}
_BRIDGE = " (via mcp-remote"


def host_of(name: str | None, known: Mapping[str, KnownHost] = KNOWN_HOSTS) -> KnownHost | None:
    """What is known of the host of that name, None = nothing. A trailing `*` in the table matches any rest."""
    if not name:
        return None
    plain = name.partition(_BRIDGE)[0]
    if plain in known:
        return known[plain]
    for pattern, host in known.items():
        if pattern.endswith("*") and plain.startswith(pattern[:-1]):
            return host
    return None


def hosts_with(own: Mapping[str, float | None]) -> dict[str, KnownHost]:
    """The table with an author's own rows before it, which give seconds until a hand-off by name."""
    first = {name: KnownHost(hand_off_after) for name, hand_off_after in own.items()}
    return first | {name: host for name, host in KNOWN_HOSTS.items() if name not in first}
