"""The desktop hosts that `taskmill install` knows: where each keeps its servers, and the form of an entry there.

From the hosts' own documentation:

    claude-desktop  https://modelcontextprotocol.io/docs/develop/connect-local-servers
    claude-code     https://code.claude.com/docs/en/mcp
    vscode          https://code.visualstudio.com/docs/copilot/reference/mcp-configuration
    cursor          https://cursor.com/docs/context/mcp

Nothing here reads or writes a file.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["HOSTS", "Host", "HostName", "config_path_of"]


class HostName(StrEnum):
    """Names of hosts on the command line."""

    CLAUDE_DESKTOP = "claude-desktop"
    CLAUDE_CODE = "claude-code"
    VSCODE = "vscode"
    CURSOR = "cursor"


@dataclass(frozen=True)
class Host:
    """One host."""

    title: str
    """Its name for people."""
    key: str
    """The object in its file that has the servers."""
    project_file: str | None
    """Its file in a project, None if it has none."""
    user_file: str
    """Its file for all projects: below the home directory, or below `{settings}`, where the platform keeps settings."""
    has_type: bool = True
    """Whether an entry has the member `type`, with the value stdio."""
    allows_comments: bool = False
    """Whether its file may have comments and trailing commas."""
    variable: str | None = "${"
    """How a variable begins in its file, None if there are none."""
    next_step: str = ""
    """What the user does next."""


HOSTS: Mapping[HostName, Host] = {
    HostName.CLAUDE_DESKTOP: Host(
        title="Claude Desktop",
        key="mcpServers",
        project_file=None,
        user_file="{settings}/Claude/claude_desktop_config.json",
        has_type=False,
        variable=None,
        next_step="Quit Claude Desktop and start it again.",
    ),
    HostName.CLAUDE_CODE: Host(
        title="Claude Code",
        key="mcpServers",
        project_file=".mcp.json",
        user_file=".claude.json",
        next_step="Start Claude Code again in this folder. It asks once whether to trust the server; /mcp shows it.",
    ),
    HostName.VSCODE: Host(
        title="VS Code",
        key="servers",
        project_file=".vscode/mcp.json",
        user_file="{settings}/Code/User/mcp.json",
        allows_comments=True,
        next_step="In VS Code, run `MCP: List Servers` and start it; it asks once whether to trust the server.",
    ),
    HostName.CURSOR: Host(
        title="Cursor",
        key="mcpServers",
        project_file=".cursor/mcp.json",
        user_file=".cursor/mcp.json",
        next_step="In Cursor, switch the server on under Settings, MCP.",
    ),
}


def config_path_of(
    host: Host, folder: Path | None, home: Path, environment: Mapping[str, str], platform: str = sys.platform
) -> Path:
    """The host's file in a project's folder; its file for all projects without a `folder`, or if projects have none."""
    if folder is not None and host.project_file is not None:
        return folder / host.project_file
    if host.user_file.startswith("{settings}/"):
        return _settings_of_user(home, environment, platform) / host.user_file.removeprefix("{settings}/")
    return home / host.user_file


def _settings_of_user(home: Path, environment: Mapping[str, str], platform: str) -> Path:
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    configured = Path(environment.get("XDG_CONFIG_HOME", ""))
    return configured if configured.is_absolute() else home / ".config"
