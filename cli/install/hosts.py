"""The desktop hosts that `taskmill install` knows: where each keeps its servers, and the form of an entry there.

From the hosts' own documentation:

    claude-desktop  https://modelcontextprotocol.io/docs/develop/connect-local-servers
    claude-code     https://code.claude.com/docs/en/mcp
    vscode          https://code.visualstudio.com/docs/copilot/reference/mcp-configuration
    cursor          https://cursor.com/docs/context/mcp
    codex           https://developers.openai.com/codex/mcp
    gemini          https://google-gemini.github.io/gemini-cli/docs/tools/mcp-server.html
    copilot         https://docs.github.com/en/copilot/how-tos/copilot-cli
    opencode        https://opencode.ai/docs/mcp-servers
    cline           https://docs.cline.bot/mcp/configuring-mcp-servers
    qwen            https://qwenlm.github.io/qwen-code-docs/en/users/features/mcp

Nothing here reads or writes a file.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = ["HOSTS", "Host", "HostName", "config_path_of"]


class HostName(StrEnum):
    """Names of hosts on the command line."""

    CLAUDE_DESKTOP = "claude-desktop"
    CLAUDE_CODE = "claude-code"
    VSCODE = "vscode"
    CURSOR = "cursor"
    CODEX = "codex"
    GEMINI = "gemini"
    COPILOT = "copilot"
    OPENCODE = "opencode"
    CLINE = "cline"
    QWEN = "qwen"


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
    """Its file for all projects: below the home directory, or below `{settings}`, where the platform keeps settings, or
    below `{config}`, where programs for Linux keep them on every platform."""
    folders_key: str | None = None
    """The object in that file that has an object for each project's folder, with servers for that folder alone."""
    type: str | None = "stdio"
    """The value of the member `type` of an entry, None if there is no such member."""
    has_one_command: bool = False
    """Whether `command` is the program with its arguments, in one list; else those are in `args`."""
    env_key: str = "env"
    """The member of an entry that has its variables."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a new entry has besides."""
    home_variable: str | None = None
    """The environment variable that names another folder for its file for all projects, with the folder below that, if
    there is one: `VARIABLE/.folder`."""
    is_toml: bool = False
    """Whether its file is TOML; else it is JSON."""
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
        type=None,
        variable=None,
        next_step="Quit Claude Desktop and start it again.",
    ),
    HostName.CLAUDE_CODE: Host(
        title="Claude Code",
        key="mcpServers",
        project_file=".mcp.json",
        user_file=".claude.json",
        folders_key="projects",
        home_variable="CLAUDE_CONFIG_DIR",
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
    HostName.CODEX: Host(
        title="Codex",
        key="mcp_servers",
        project_file=None,
        user_file=".codex/config.toml",
        type=None,
        variable=None,
        # Its first turn gives any other server one second, and then goes on without its tools and without a word:
        # openai/codex 31641. 10 seconds to start are its default, and a server it requires must not miss them.
        extra={"required": True, "startup_timeout_sec": 60},
        home_variable="CODEX_HOME",
        is_toml=True,
        next_step="Start Codex again; /mcp shows the server. It waits for the server, and does not start without it.",
    ),
    HostName.GEMINI: Host(
        title="Gemini CLI",
        key="mcpServers",
        project_file=".gemini/settings.json",
        user_file=".gemini/settings.json",
        home_variable="GEMINI_CLI_HOME/.gemini",
        type=None,
        allows_comments=True,
        variable="$",
        next_step="Start Gemini CLI again in this folder; /mcp shows the server.",
    ),
    HostName.COPILOT: Host(
        title="Copilot CLI",
        key="mcpServers",
        project_file=None,
        user_file=".copilot/mcp-config.json",
        home_variable="COPILOT_HOME",
        type="local",
        extra={"tools": ["*"]},
        variable="$",
        next_step="Start Copilot CLI again; /mcp show shows the server.",
    ),
    HostName.OPENCODE: Host(
        title="opencode",
        key="mcp",
        project_file="opencode.json",
        user_file="{config}/opencode/opencode.json",
        type="local",
        has_one_command=True,
        env_key="environment",
        extra={"enabled": True},
        allows_comments=True,
        variable="{env:",
        next_step="Start opencode again in this folder; `opencode mcp list` shows the server.",
    ),
    HostName.CLINE: Host(
        title="Cline",
        key="mcpServers",
        project_file=None,
        user_file="{settings}/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        type=None,
        next_step="In VS Code, open Cline's MCP servers and switch the server on.",
    ),
    HostName.QWEN: Host(
        title="Qwen Code",
        key="mcpServers",
        project_file=".qwen/settings.json",
        user_file=".qwen/settings.json",
        home_variable="QWEN_HOME",
        type=None,
        allows_comments=True,
        variable="$",
        next_step="Start Qwen Code again in this folder; /mcp shows the server.",
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
    if host.user_file.startswith("{config}/"):
        return _config_folder(home, environment) / host.user_file.removeprefix("{config}/")
    variable, _, below = (host.home_variable or "").partition("/")
    other = Path(environment.get(variable, ""))
    return other / below / Path(host.user_file).name if other.is_absolute() else home / host.user_file


def _settings_of_user(home: Path, environment: Mapping[str, str], platform: str) -> Path:
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    return _config_folder(home, environment)


def _config_folder(home: Path, environment: Mapping[str, str]) -> Path:
    configured = Path(environment.get("XDG_CONFIG_HOME", ""))
    return configured if configured.is_absolute() else home / ".config"
