"""`taskmill install` with a server that is not ours, and `--wrap` of an entry that a host has."""

import json
import stat
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from taskmill.cli.errors import UsageError
from taskmill.cli.install.command import InstallRequest, install_server
from taskmill.cli.install.hosts import HOSTS, HostName, config_path_of
from taskmill.cli.words import with_command_joined
from taskmill.engine.errors import OperatorError, ServerLoadError
from tests.cli.host_files import backups_of, home, written
from tests.support.command_line import CommandLine
from tests.support.raw_stdio import RawHost
from tests.support.results import text_of
from tests.support.waiting import eventually

__all__ = ["home"]

COMMAND = str(Path(sys.executable).with_name("taskmill"))
REQUEST = InstallRequest(
    HostName.CLAUDE_CODE, None, name=None, env=(), remove=None, for_user=False, dry_run=False, yes=True
)
TOKEN = "tok-e7a1-very-secret"


FOREIGN = '''
"""A server of someone else's."""

from mcp.server.mcpserver import MCPServer

mcp = MCPServer("Shelf")


@mcp.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


if __name__ == "__main__":
    mcp.run()
'''


def foreign_words(folder: Path) -> list[str]:
    """The command of a server that is not ours, whose file is written into the folder."""
    return [sys.executable, str(written(folder / "shelf.py", FOREIGN))]


def wrap(host: str, name: str = "shelf", **more: Any) -> None:
    install_server(replace(REQUEST, host=HostName(host), wrap=name, **more))


def unwrap(host: str, name: str = "shelf", **more: Any) -> None:
    install_server(replace(REQUEST, host=HostName(host), unwrap=name, **more))


def file_of(host: str, home: Path, *, for_user: bool = False) -> Path:
    folder = None if for_user else home / "project"
    return config_path_of(HOSTS[HostName(host)], folder, home, {})


def entry_in(file: Path, host: str, name: str = "shelf") -> dict[str, Any]:
    key = HOSTS[HostName(host)].key
    if file.suffix == ".toml":
        return dict(tomllib.loads(file.read_text())[key][name])
    lines = [line for line in file.read_text().splitlines() if not line.strip().startswith("//")]
    return dict(json.loads("\n".join(lines).replace(",\n  }", "\n  }"))[key][name])


def refused(request: InstallRequest, kind: type[Exception] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        install_server(request)
    return str(caught.value)


class TestInstall:
    def test_a_command_behind_two_dashes_becomes_an_entry(self, home: Path) -> None:
        words = ["install", "claude-code", "--yes", "--", sys.executable, "-m", "some_server", "--level", "--", "x"]
        target = with_command_joined(words)[-1]
        install_server(replace(REQUEST, target=target, env=("A=1",)))
        (entry,) = json.loads(file_of("claude-code", home).read_text())["mcpServers"].values()
        args = ["stdio", "--", sys.executable, "-m", "some_server", "--level", "--", "x"]
        assert entry == {"type": "stdio", "command": COMMAND, "args": args, "env": {"A": "1"}}

    def test_the_second_time_nothing_changes_and_it_can_be_removed(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        request = replace(REQUEST, target=f"command:{sys.executable} -m some_server")
        install_server(request)
        capsys.readouterr()
        install_server(request)
        assert "Nothing to change" in capsys.readouterr().out
        install_server(replace(REQUEST, remove="some_server"))
        assert json.loads(file_of("claude-code", home).read_text()) == {"mcpServers": {}}

    def test_an_address_becomes_an_entry_named_by_its_host(self, home: Path) -> None:
        install_server(replace(REQUEST, host=HostName.OPENCODE, target="https://mcp.example/mcp"))
        entry = entry_in(file_of("opencode", home), "opencode", "mcp-example")
        assert entry["command"] == [COMMAND, "stdio", "https://mcp.example/mcp"]

    def test_a_file_with_servers_is_named_by_its_full_path(self, home: Path) -> None:
        written(home / "project" / "all.json", json.dumps({"mcpServers": {"a": {"command": "x"}}}))
        install_server(replace(REQUEST, target="all.json"))
        assert entry_in(file_of("claude-code", home), "claude-code", "all")["args"][1] == str(
            home / "project" / "all.json"
        )

    def test_paths_of_a_command_are_made_absolute_because_hosts_start_elsewhere(self, home: Path) -> None:
        (home / "project" / "main").mkdir()
        install_server(replace(REQUEST, target=f"command:{sys.executable} server.py . ./main main ./absent", name="x"))
        project = home / "project"
        args = entry_in(file_of("claude-code", home), "claude-code", "x")["args"]
        assert args[3:] == [str(project / "server.py"), str(project), str(project / "main"), "main", "./absent"]

    def test_what_is_no_server_is_refused(self, home: Path) -> None:
        assert "There is no command" in refused(replace(REQUEST, target="command:no-such-thing x"), ServerLoadError)
        assert "There is no file" in refused(replace(REQUEST, target="absent.json"), ServerLoadError)
        assert "must not hold a password" in refused(replace(REQUEST, target="https://a:b@x/mcp"), ServerLoadError)
        assert "Behind `--` stands the command" in refused(replace(REQUEST, target="command:"), ServerLoadError)
        assert not file_of("claude-code", home).exists()


COMMENTED = """// mine
{
  "inputs": [],
  "servers": {
    "other": { "command": "x" }, // another
    "shelf": {
      // started by hand before
      "command": "npx", "args": ["-y", "shelf-server",   "--fast"],
      "env": {"SHELF_KEY": "${input:key}"},
      "cwd": "${workspaceFolder}",
      "dev": {"watch": "src"},
    },
  },
}
"""
TOML = """model = "gpt-5" # the best

[mcp_servers.other]
command = "x"

# the shelf
[mcp_servers.shelf]
command = "npx"   # of node
args = [
  "-y",
  "shelf-server",
]
tool_timeout_sec = 90
enabled = true

[mcp_servers.shelf.env]
SHELF_KEY = "tok-e7a1-very-secret" # mine

[profiles.x]
a = 1
"""


class TestCommands:
    """An entry that starts a command."""

    @pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor", "gemini", "copilot", "cline", "qwen"])
    def test_each_host_starts_the_same_command_behind_ours(self, home: Path, host: str) -> None:
        entry = {
            "command": "uvx", "args": ["shelf", "--", "${HOME}"], "env": {"KEY": TOKEN}, "cwd": "/srv",
            "timeout": 90000, "tools": ["a"], "disabled": False,
        }  # fmt: skip
        text = json.dumps({HOSTS[HostName(host)].key: {"a": {"url": "http://x"}, "shelf": entry}}, indent=3)
        file = written(file_of(host, home), text)
        wrap(host)
        assert entry_in(file, host) == entry | {
            "command": COMMAND, "args": ["stdio", "--", "uvx", "shelf", "--", "${HOME}"],
        }  # fmt: skip
        unwrap(host)
        assert file.read_text() == text

    def test_opencode_has_one_list(self, home: Path) -> None:
        entry = {"type": "local", "command": ["npx", "-y", "shelf"], "environment": {"K": "1"}, "enabled": False}
        text = json.dumps({"mcp": {"shelf": entry}})
        file = written(file_of("opencode", home), text)
        wrap("opencode", env=("TASKMILL_TASK=sort_*",))
        assert entry_in(file, "opencode") == entry | {
            "command": [COMMAND, "stdio", "--", "npx", "-y", "shelf"],
            "environment": {"K": "1", "TASKMILL_TASK": "sort_*"},
        }
        unwrap("opencode")
        assert file.read_text() == text

    def test_comments_and_layout_come_back_with_the_entry(self, home: Path) -> None:
        file = written(file_of("vscode", home), COMMENTED)
        wrap("vscode")
        text = file.read_text()
        assert '[ "stdio", "--", "npx", "-y", "shelf-server", "--fast" ]' in " ".join(text.split())
        for kept in ("// mine", "// another", "// started by hand before", '"${input:key}"', '"${workspaceFolder}"'):
            assert kept in text
        file.write_text(text.replace('"command": "x"', '"command": "y"'))
        unwrap("vscode")
        assert file.read_text() == COMMENTED.replace('"command": "x"', '"command": "y"'), (
            "what else changed since stays"
        )

    def test_codex_keeps_its_timeouts_and_gets_its_table_back(self, home: Path) -> None:
        file = written(file_of("codex", home), TOML)
        wrap("codex")
        before = tomllib.loads(TOML)
        after = tomllib.loads(file.read_text())
        assert after["mcp_servers"].pop("shelf") == before["mcp_servers"].pop("shelf") | {
            "command": COMMAND, "args": ["stdio", "--", "npx", "-y", "shelf-server"],
            "required": True, "startup_timeout_sec": 60,
        }  # fmt: skip
        assert after == before
        assert "# the shelf" in file.read_text()
        unwrap("codex")
        assert file.read_text() == TOML

    def test_two_entries_of_a_file_are_given_back_in_any_order(self, home: Path) -> None:
        text = json.dumps({"mcpServers": {name: {"command": name, "args": []} for name in ("a", "b")}}, indent=2)
        file = written(file_of("claude-code", home), text)
        wrap("claude-code", "a")
        wrap("claude-code", "b")
        unwrap("claude-code", "a")
        unwrap("claude-code", "b")
        assert file.read_text() == text

    def test_claude_code_finds_what_it_keeps_for_this_folder_alone(self, home: Path) -> None:
        """That is where its own command puts a server unless it is told otherwise."""
        shelf = {"type": "stdio", "command": "npx", "args": ["shelf"], "env": {}}
        state = {"projects": {str(home / "project"): {"mcpServers": {"shelf": shelf}}}, "mcpServers": {"shelf": {}}}
        file = written(home / ".claude.json", json.dumps(state))
        wrap("claude-code")
        found = json.loads(file.read_text())
        ours = found["projects"][str(home / "project")]["mcpServers"]["shelf"]
        assert ours["args"] == ["stdio", "--", "npx", "shelf"]
        assert found["mcpServers"] == {"shelf": {}}
        unwrap("claude-code")
        assert file.read_text() == json.dumps(state)

    def test_an_entry_for_all_projects_is_found_from_any_of_them(self, home: Path) -> None:
        file = written(file_of("cursor", home, for_user=True), '{"mcpServers": {"shelf": {"command": "x"}}}')
        wrap("cursor")
        assert entry_in(file, "cursor")["args"] == ["stdio", "--", "x"]


class TestAddresses:
    """An entry that has an address."""

    @pytest.mark.parametrize(
        ("host", "entry", "expected"),
        [
            ("claude-code", {"type": "http"}, {"type": "stdio"}),
            ("vscode", {"type": "http"}, {"type": "stdio"}),
            ("cursor", {}, {"type": "stdio"}),
            ("copilot", {"type": "http", "tools": ["*"]}, {"type": "local", "tools": ["*"]}),
            ("cline", {"type": "streamableHttp", "disabled": False}, {"disabled": False}),
        ],
    )
    def test_the_token_moves_from_a_header_to_a_variable(
        self, home: Path, host: str, entry: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        there = entry | {"url": "https://mcp.example/mcp", "headers": {"Authorization": f"Bearer {TOKEN}", "X-A": "b"}}
        text = json.dumps({HOSTS[HostName(host)].key: {"shelf": there}}, indent=2)
        file = written(file_of(host, home), text)
        wrap(host)
        assert entry_in(file, host) == expected | {
            "command": COMMAND, "args": ["stdio", "https://mcp.example/mcp"],
            "env": {"TASKMILL_UPSTREAM_HEADERS": f"Authorization: Bearer {TOKEN}\nX-A: b"},
        }  # fmt: skip
        unwrap(host)
        assert file.read_text() == text

    @pytest.mark.parametrize("host", ["gemini", "qwen"])
    def test_the_address_of_gemini_has_a_name_of_its_own(self, home: Path, host: str) -> None:
        there = {"httpUrl": "https://mcp.example/mcp", "headers": {"X-Key": "$SHELF_KEY"}, "timeout": 5, "trust": True}
        file = written(file_of(host, home), json.dumps({"mcpServers": {"shelf": there}}))
        wrap(host)
        assert entry_in(file, host) == {
            "timeout": 5, "trust": True, "command": COMMAND, "args": ["stdio", "https://mcp.example/mcp"],
            "env": {"TASKMILL_UPSTREAM_HEADERS": "X-Key: $SHELF_KEY"},
        }  # fmt: skip

    def test_codex_passes_on_the_variables_that_its_headers_need(self, home: Path) -> None:
        text = (
            '[mcp_servers.shelf]\nurl = "https://mcp.example/mcp"\nbearer_token_env_var = "SHELF_TOKEN"\n'
            'tool_timeout_sec = 9\nenv_http_headers = { "X-Org" = "SHELF_ORG" }\n\n'
            f'[mcp_servers.shelf.http_headers]\nX-Key = "{TOKEN}"\n\n# the end\n'
        )
        file = written(file_of("codex", home), text)
        wrap("codex")
        lines = [f"X-Key: {TOKEN}", "Authorization: Bearer ${SHELF_TOKEN}", "X-Org: ${SHELF_ORG}"]
        assert entry_in(file, "codex") == {
            "command": COMMAND, "args": ["stdio", "https://mcp.example/mcp"], "tool_timeout_sec": 9,
            "env": {"TASKMILL_UPSTREAM_HEADERS": "\n".join(lines)}, "env_vars": ["SHELF_TOKEN", "SHELF_ORG"],
            "required": True, "startup_timeout_sec": 60,
        }  # fmt: skip
        unwrap("codex")
        assert file.read_text() == text

    @pytest.mark.parametrize(
        ("more", "expected_text"),
        [
            ({"oauth": {"clientId": "x"}}, "signs in by its 'oauth'"),
            ({"headersHelper": "./token.sh"}, "signs in by its 'headersHelper'"),
            ({"type": "sse"}, "SSE"),
            ({"headers": {"A": "b\nc"}}, "a header 'A'"),
        ],
    )
    def test_what_taskmill_could_not_do_for_the_host_is_refused(
        self, home: Path, more: dict[str, Any], expected_text: str
    ) -> None:
        text = json.dumps({"mcpServers": {"shelf": {"type": "http", "url": "https://mcp.example/mcp"} | more}})
        file = written(file_of("claude-code", home), text)
        assert expected_text in (message := refused(replace(REQUEST, wrap="shelf")))
        assert "left alone" in message
        assert file.read_text() == text

    def test_a_person_is_told_what_taskmill_cannot_know(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        there = {"type": "http", "url": "https://mcp.example/mcp?key=abc"}
        written(file_of("claude-code", home), json.dumps({"mcpServers": {"shelf": there}}))
        wrap("claude-code", dry_run=True)
        told = capsys.readouterr().err
        assert "--env TASKMILL_UPSTREAM_TOKEN" in told
        assert "query" in told


class TestWhatIsShown:
    def test_no_secret_of_the_file_is_shown(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        servers = {
            "near": {"type": "http", "url": f"https://x/mcp?key={TOKEN}", "headers": {"X-Key": TOKEN}},
            "shelf": {
                "command": "npx",
                "args": [f"--token={TOKEN}", f"Authorization: Bearer {TOKEN}", "--api-key", TOKEN, "https://y"],
                "env": {"ANY": f"x{TOKEN}", "BY_NAME": "${SHELF_KEY}"},
            },
            "behind": {"command": "x", "args": [f"postgres://me:{TOKEN}@db"]},
        }
        written(file_of("claude-code", home), json.dumps({"apiKey": TOKEN, "mcpServers": servers}, indent=2))
        wrap("claude-code", env=("MORE=1",))
        unwrap("claude-code")
        out = "".join(capsys.readouterr())
        assert TOKEN not in out
        for shown in ('"Authorization: ***"', '"BY_NAME": "${SHELF_KEY}"', '"--token=***"'):
            assert shown in out

    def test_no_secret_of_a_toml_file_is_shown(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        written(file_of("codex", home), TOML + f"[mcp_servers.z]\ncommand = 'x'\nenv = {{ A = '{TOKEN}' }}\n")
        wrap("codex")
        assert TOKEN not in "".join(capsys.readouterr())

    def test_what_is_kept_is_for_this_user_alone_and_gone_afterwards(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
        written(file_of("cursor", home), '{"mcpServers": {"shelf": {"command": "x"}}}')
        wrap("cursor")
        (kept,) = (home / "state" / "taskmill" / "wrapped").iterdir()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        unwrap("cursor")
        assert not kept.exists()


class TestRefusals:
    def test_what_cannot_be_wrapped(self, home: Path) -> None:
        mine = {"command": COMMAND, "args": ["stdio", "/x/server.py"]}
        servers = {"mine": mine, "odd": [], "empty": {}, "number": {"command": 7}, "shelf": {"command": "x"}}
        file = written(file_of("cursor", home), json.dumps({"mcpServers": servers}))
        wrap("cursor")
        text = file.read_text()
        for name, expected_text in {
            "absent": "no server 'absent'",
            "mine": "a server of Taskmill's own already",
            "shelf": "behind Taskmill already: it starts taskmill stdio -- x",
            "odd": "is no object",
            "empty": "neither a command nor an address",
            "number": "a command that is no text",
        }.items():
            assert expected_text in refused(replace(REQUEST, host=HostName.CURSOR, wrap=name))
        assert "Servers there: mine, odd, empty, number, shelf" in refused(
            replace(REQUEST, host=HostName.CURSOR, wrap="absent")
        )
        assert file.read_text() == text

    def test_what_cannot_be_unwrapped(self, home: Path) -> None:
        install_server(replace(REQUEST, target="https://mcp.example/mcp", name="ours"))
        file = file_of("claude-code", home)
        content = json.loads(file.read_text())
        content["mcpServers"]["shelf"] = {"command": "x"}
        file.write_text(json.dumps(content))
        assert "was not wrapped here" in refused(replace(REQUEST, unwrap="ours"))
        assert "is not behind Taskmill" in refused(replace(REQUEST, unwrap="shelf"))
        assert "no server 'absent'" in refused(replace(REQUEST, unwrap="absent"))
        assert json.loads(file.read_text()) == content

    def test_removing_a_wrapped_entry_would_lose_what_it_was(self, home: Path) -> None:
        file = written(file_of("cursor", home), '{"mcpServers": {"shelf": {"command": "x"}}}')
        wrap("cursor")
        text = file.read_text()
        assert "--unwrap shelf" in refused(replace(REQUEST, host=HostName.CURSOR, remove="shelf"))
        assert file.read_text() == text

    @pytest.mark.parametrize(
        ("host", "text"),
        [
            ("cursor", '{"mcpServers": {"shelf": {"command": "x"},}}'),
            ("cursor", '{"mcpServers": []}'),
            ("cursor", '{"mcpServers": {"shelf": {"command": "x", "command": "y"}}}'),
            ("codex", "[mcp_servers.shelf\n"),
            ("codex", 'mcp_servers.shelf = { command = "x" }\n'),
            ("codex", '[mcp_servers.shelf]\ncommand = "x"\n[a]\n[mcp_servers.shelf.env]\nA = "b"\n'),
        ],
    )
    def test_a_file_that_is_damaged_or_cannot_be_changed_is_left_alone(self, home: Path, host: str, text: str) -> None:
        file = written(file_of(host, home), text)
        assert "left alone" in refused(replace(REQUEST, host=HostName(host), wrap="shelf"))
        assert file.read_text() == text
        assert backups_of(file) == []

    def test_what_is_kept_cannot_be_read(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
        file = written(file_of("cursor", home), '{"mcpServers": {"shelf": {"command": "x"}}}')
        wrap("cursor")
        (kept,) = (home / "state" / "taskmill" / "wrapped").iterdir()
        kept.write_text("{")
        text = file.read_text()
        message = refused(replace(REQUEST, host=HostName.CURSOR, unwrap="shelf"), OperatorError)
        assert str(kept) in message
        assert ".backup" in message
        assert file.read_text() == text

    @pytest.mark.parametrize(
        ("changes", "expected_text"),
        [
            ({"wrap": "x", "unwrap": "x"}, "--wrap takes a name and nothing else"),
            ({"wrap": "x", "target": "https://x/mcp"}, "--wrap takes a name and --env"),
            ({"unwrap": "x", "env": ("A=1",)}, "--unwrap takes a name and nothing else"),
            ({"wrap": "x", "name": "y"}, "--wrap takes a name"),
        ],
    )
    def test_options_that_do_not_fit_together(self, home: Path, changes: dict[str, Any], expected_text: str) -> None:
        assert expected_text in refused(replace(REQUEST, **changes))


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    more = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    with CommandLine(tmp_path, more | {"XDG_STATE_HOME": str(tmp_path / "state")}) as command_line:
        yield command_line


@pytest.mark.slow
class TestCommand:
    def test_a_host_can_start_what_was_wrapped_and_what_was_given_back(self, cli: CommandLine, tmp_path: Path) -> None:
        """From its file alone: the working directory and the environment are the host's."""
        command, *args = foreign_words(cli.folder)
        entry = {"command": command, "args": args, "env": {"SHELF": "1"}}
        text = json.dumps({"mcpServers": {"shelf": entry}})
        file = written(tmp_path / "config" / "Claude" / "claude_desktop_config.json", text)
        done = cli.run("install", "claude-desktop", "--wrap", "shelf", "--yes")
        assert done.returncode == 0, done.stderr
        host = {key: cli.environment[key] for key in ("HOME", "XDG_STATE_HOME", "TASKMILL_GRACE")}
        for is_wrapped in (True, False):
            entry = json.loads(file.read_text())["mcpServers"]["shelf"]
            assert ("stdio" in entry["args"]) == is_wrapped
            words = [entry["command"], *entry["args"]]
            environment = host | {"PATH": "/usr/bin:/bin"} | entry["env"]
            with RawHost.started(words, environment, Path("/"), tmp_path / "log") as session:
                if is_wrapped:
                    task_id = session.call_as_task("add", a=1, b=2)
                    ended = eventually(partial(session.task, task_id), lambda task: task["status"] == "completed")
                    assert text_of(ended["result"]) == "3"
                else:
                    called = session.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
                    assert text_of(called) == "3"
            if is_wrapped:
                assert cli.run("install", "claude-desktop", "--unwrap", "shelf", "--yes").returncode == 0
        assert file.read_text() == text

    def test_install_takes_a_command_behind_two_dashes(self, cli: CommandLine) -> None:
        done = cli.run("install", "cursor", "--yes", "--name", "shelf", "--", *foreign_words(cli.folder))
        assert done.returncode == 0, done.stderr
        entry = json.loads((cli.folder / ".cursor" / "mcp.json").read_text())["mcpServers"]["shelf"]
        assert entry["args"] == ["stdio", "--", *foreign_words(cli.folder)]
