"""How each host is pointed at a model and at an MCP server: the files it reads and the command that starts it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts.scripted_model import steps_in

__all__ = ["INSTALL_NAMES", "LAUNCHERS", "NAME", "Launch", "Setting"]

Json = dict[str, Any]
NAME = "hosts"
"""What every host calls the server."""
INSTALL_NAMES = {
    "claude": "claude-code",
    "codex": "codex",
    "gemini": "gemini",
    "qwen": "qwen",
    "opencode": "opencode",
    "copilot": "copilot",
}
"""The hosts that `taskmill install` knows, by the names it has for them."""


@dataclass(frozen=True)
class Setting:
    """What a host is given; its files go below `home`."""

    program: list[str]
    """The words that start the installed host."""
    home: Path
    model: str
    """The base address of the scripted model."""
    prompt: str
    url: str | None
    """The server over HTTP; None = over stdio."""
    stdio: list[str]
    """The command that serves over stdio, [] = `taskmill install` has given the host its server."""
    server_env: Mapping[str, str]
    starts_another: bool = False
    """Whether the server's command starts another server, which takes longer than some hosts wait unless set to."""

    def write(self, path: str, content: str | Json) -> Path:
        """A file below `home`, as text or JSON."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return file

    @property
    def is_installed(self) -> bool:
        """Whether `taskmill install` writes what the host reads of its server, and nothing else does."""
        return not self.url and not self.stdio

    @property
    def entry(self) -> Json:
        """The usual entry of an `mcpServers` table."""
        if self.url:
            return {"type": "http", "url": self.url}
        return {"type": "stdio", "command": self.stdio[0], "args": self.stdio[1:], "env": dict(self.server_env)}


@dataclass(frozen=True)
class Launch:
    """A host to be started."""

    command: list[str]
    env: dict[str, str]


def _claude(given: Setting) -> Launch:
    words = ["--allowedTools", f"mcp__{NAME}", "--output-format", "stream-json", "--verbose"]
    words += ["--model", "claude-sonnet-4-5"]
    if given.is_installed:  # What a person answers when Claude Code asks whether to trust the server.
        given.write(".claude/settings.json", {"enableAllProjectMcpServers": True})
    else:
        config = given.write("mcp.json", {"mcpServers": {NAME: given.entry}})
        words += ["--mcp-config", str(config), "--strict-mcp-config"]
    env = {"CLAUDE_CONFIG_DIR": str(given.home / ".claude"), "ANTHROPIC_BASE_URL": given.model}
    env |= {"ANTHROPIC_API_KEY": "none", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
    env |= {"DISABLE_ERROR_REPORTING": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    if given.starts_another:
        env |= {"MCP_CONNECTION_NONBLOCKING": "false", "MCP_CONNECT_TIMEOUT_MS": "60000"}
    return Launch([*given.program, "-p", given.prompt, *words], env)


def _codex(given: Setting) -> Launch:
    lines = [
        'model = "gpt-5"', 'model_provider = "tests"', 'approval_policy = "never"', 'sandbox_mode = "read-only"',
        "check_for_update_on_startup = false", "[analytics]", "enabled = false", "[model_providers.tests]",
        'name = "tests"', f'base_url = "{given.model}/v1"', 'env_key = "TESTS_KEY"', 'wire_api = "responses"',
    ]  # fmt: skip
    server = ["required = true", "startup_timeout_sec = 60"]
    if given.url:
        server.append(f'url = "{given.url}"')
    elif given.stdio:
        server += [f"command = {json.dumps(given.stdio[0])}", f"args = {json.dumps(given.stdio[1:])}"]
        server += [f"[mcp_servers.{NAME}.env]", *(f"{k} = {json.dumps(v)}" for k, v in given.server_env.items())]
    if not given.is_installed:
        lines += [f"[mcp_servers.{NAME}]", *server]
    given.write(".codex/config.toml", "\n".join(lines) + "\n")
    # No person is there to approve a call.
    approved = ["-c", f'mcp_servers.{NAME}.default_tools_approval_mode="approve"']
    command = [*given.program, "exec", "--json", "--skip-git-repo-check", *approved, given.prompt]
    return Launch(command, {"CODEX_HOME": str(given.home / ".codex"), "TESTS_KEY": "none"})


def _gemini(given: Setting) -> Launch:
    _write_gemini_settings(given, ".gemini", "gemini-api-key")
    words = ["-p", given.prompt, "--output-format", "stream-json", "--yolo", "-m", "gemini-2.5-flash"]
    env = {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": given.model, "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    return Launch([*given.program, *words], env)


def _qwen(given: Setting) -> Launch:
    """Made from Gemini CLI, for models behind OpenAI's API."""
    _write_gemini_settings(given, ".qwen", "openai")
    words = ["-p", given.prompt, "--output-format", "stream-json", "--yolo"]
    env = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{given.model}/v1", "OPENAI_MODEL": "scripted"}
    return Launch([*given.program, *words], env)


def _write_gemini_settings(given: Setting, folder: str, auth: str) -> None:
    settings: Json = {
        "security": {"auth": {"selectedType": auth}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
    }  # fmt: skip
    if not given.is_installed:
        entry = {"httpUrl": given.url} if given.url else {k: v for k, v in given.entry.items() if k != "type"}
        settings["mcpServers"] = {NAME: {**entry, "trust": True}}
    given.write(f"{folder}/settings.json", settings)


def _opencode(given: Setting) -> Launch:
    entry: Json = {"type": "remote", "url": given.url, "enabled": True}
    if not given.url:
        entry = {"type": "local", "command": given.stdio, "environment": dict(given.server_env), "enabled": True}
        entry |= {"timeout": 60000} if given.starts_another else {}
    model = {"npm": "@ai-sdk/openai-compatible", "name": "tests",
             "models": {"scripted": {"name": "scripted", "tool_call": True}},
             "options": {"baseURL": f"{given.model}/v1", "apiKey": "none"}}  # fmt: skip
    settings: Json = {
        "autoupdate": False, "share": "disabled", "model": "tests/scripted", "small_model": "tests/scripted",
        "permission": "allow", "provider": {"tests": model},
    }  # fmt: skip
    if not given.is_installed:
        settings["mcp"] = {NAME: entry}
    given.write(".config/opencode/opencode.json", settings)
    home = given.home
    env = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    env |= {"XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / ".local" / "share")}
    env |= {"XDG_STATE_HOME": str(home / ".local" / "state"), "XDG_CACHE_HOME": str(home / ".cache")}
    return Launch([*given.program, "run", "--format", "json", given.prompt], env)


def _copilot(given: Setting) -> Launch:
    words = ["-p", given.prompt, "--allow-all-tools", "--no-color", "--disable-builtin-mcps"]
    words += ["--log-level", "all", "--log-dir", str(given.home / "logs")]
    if not given.is_installed:
        kind = {} if given.url else {"type": "local"}
        config = given.write("mcp.json", {"mcpServers": {NAME: {**given.entry, **kind, "tools": ["*"]}}})
        words += ["--additional-mcp-config", f"@{config}"]
    env = {"COPILOT_PROVIDER_BASE_URL": f"{given.model}/v1", "COPILOT_PROVIDER_TYPE": "openai"}
    env |= {"COPILOT_PROVIDER_API_KEY": "none", "COPILOT_MODEL": "scripted", "COPILOT_OFFLINE": "true"}
    return Launch([*given.program, *words], env | {"COPILOT_AUTO_UPDATE": "false"})


def _inspector(given: Setting, *more: str) -> Launch:
    """No model: the first step of the script is called."""
    (step, *_) = steps_in(given.prompt) or []
    if given.url:
        target = [given.url, "--transport", "http"]
    else:  # By a file: its own command line takes a `--` among the words for itself.
        config = given.write("mcp.json", {"mcpServers": {NAME: given.entry}})
        target = ["--config", str(config), "--server", NAME]
    words = ["--cli", *target, *more, "--method", "tools/call", "--tool-name", step["tool"]]
    for name, value in step.get("args", {}).items():
        words += ["--tool-arg", f"{name}={value}"]
    return Launch([*given.program, *words], dict(given.server_env))


def _inspector_2026(given: Setting) -> Launch:
    return _inspector(given, "--protocol-era", "auto")


def _openai_agents(given: Setting) -> Launch:
    order = {"url": given.url, "command": given.stdio, "env": dict(given.server_env), "prompt": given.prompt}
    env = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{given.model}/v1", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    return Launch([*given.program, str(given.write("agent.json", order))], env)


LAUNCHERS: Mapping[str, tuple[str, Callable[[Setting], Launch]]] = {
    "claude": ("claude", _claude),
    "codex": ("codex", _codex),
    "gemini": ("gemini", _gemini),
    "qwen": ("qwen", _qwen),
    "opencode": ("opencode", _opencode),
    "copilot": ("copilot", _copilot),
    "inspector": ("inspector", _inspector),
    "inspector-2026": ("inspector", _inspector_2026),
    "openai-agents": ("openai-agents", _openai_agents),
}
"""By the name that `scripts/hosts` takes: the package it comes from (see `installation.py`), and how it is started."""
