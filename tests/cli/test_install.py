"""`taskmill install`: each host's file, what must stay in it, and when it must not be changed."""

import json
import resource
import stat
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskmill.cli.errors import UsageError
from taskmill.cli.install.command import InstallRequest, install_server
from taskmill.cli.install.config_file import read_config
from taskmill.cli.install.hosts import HOSTS, HostName, config_path_of
from taskmill.engine.errors import OperatorError, ServerLoadError
from tests.cli.host_files import SERVER, backups_of, home, written
from tests.support.command_line import CommandLine, Screen
from tests.support.raw_stdio import RawHost

__all__ = ["home"]

REQUEST = InstallRequest(
    HostName.CURSOR, "server.py", name=None, env=(), remove=None, for_user=False, dry_run=False, yes=True
)


def entry_of(home: Path, **more: Any) -> dict[str, Any]:
    command = str(Path(sys.executable).with_name("taskmill"))
    return {"command": command, "args": ["stdio", str(home / "project" / "server.py")], **more}


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "for_user", "file", "key", "kind"),
        [
            ("claude-desktop", False, ".config/Claude/claude_desktop_config.json", "mcpServers", {}),
            ("claude-code", False, "project/.mcp.json", "mcpServers", {"type": "stdio"}),
            ("claude-code", True, ".claude.json", "mcpServers", {"type": "stdio"}),
            ("vscode", False, "project/.vscode/mcp.json", "servers", {"type": "stdio"}),
            ("vscode", True, ".config/Code/User/mcp.json", "servers", {"type": "stdio"}),
            ("cursor", False, "project/.cursor/mcp.json", "mcpServers", {"type": "stdio"}),
            ("cursor", True, ".cursor/mcp.json", "mcpServers", {"type": "stdio"}),
            ("gemini", False, "project/.gemini/settings.json", "mcpServers", {}),
            ("gemini", True, ".gemini/settings.json", "mcpServers", {}),
            ("copilot", False, ".copilot/mcp-config.json", "mcpServers", {"type": "local", "tools": ["*"]}),
            (
                "cline",
                False,
                ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
                "mcpServers",
                {},
            ),
            ("qwen", False, "project/.qwen/settings.json", "mcpServers", {}),
            ("qwen", True, ".qwen/settings.json", "mcpServers", {}),
        ],
    )
    def test_each_gets_its_entry_where_it_looks_for_it(
        self, home: Path, host: str, for_user: bool, file: str, key: str, kind: dict[str, str]
    ) -> None:
        request = replace(REQUEST, host=HostName(host), for_user=for_user)
        install_server(request)
        assert json.loads((home / file).read_text()) == {key: {"my-tools": kind | entry_of(home)}}
        assert (home / file).read_text().endswith("}\n")
        install_server(replace(request, target=None, remove="my-tools"))
        assert json.loads((home / file).read_text()) == {key: {}}

    @pytest.mark.parametrize(
        ("host", "platform", "environment", "expected"),
        [
            ("claude-desktop", "darwin", {}, "Library/Application Support/Claude/claude_desktop_config.json"),
            ("claude-desktop", "win32", {"APPDATA": "/r"}, "/r/Claude/claude_desktop_config.json"),
            ("claude-desktop", "win32", {}, "AppData/Roaming/Claude/claude_desktop_config.json"),
            ("claude-desktop", "linux", {"XDG_CONFIG_HOME": "/c"}, "/c/Claude/claude_desktop_config.json"),
            ("vscode", "darwin", {}, "Library/Application Support/Code/User/mcp.json"),
            ("vscode", "linux", {}, ".config/Code/User/mcp.json"),
            ("cursor", "darwin", {}, ".cursor/mcp.json"),
            ("claude-code", "win32", {}, ".claude.json"),
        ],
    )
    def test_platforms_differ(self, host: str, platform: str, environment: dict[str, str], expected: str) -> None:
        home = Path("/home/ada")
        found = config_path_of(HOSTS[HostName(host)], None, home, environment, platform)
        assert found == home / expected

    @pytest.mark.parametrize(
        ("host", "variable", "expected"),
        [
            ("claude-code", "CLAUDE_CONFIG_DIR", "/elsewhere/.claude.json"),
            ("codex", "CODEX_HOME", "/elsewhere/config.toml"),
            ("copilot", "COPILOT_HOME", "/elsewhere/mcp-config.json"),
            ("gemini", "GEMINI_CLI_HOME", "/elsewhere/.gemini/settings.json"),
            ("qwen", "QWEN_HOME", "/elsewhere/settings.json"),
        ],
    )
    def test_a_host_that_keeps_its_file_in_another_folder_is_followed_there(
        self, host: str, variable: str, expected: str
    ) -> None:
        """As each host's own `mcp add` has it with the variable."""
        found = config_path_of(HOSTS[HostName(host)], None, Path("/home/ada"), {variable: "/elsewhere"})
        assert found == Path(expected)

    @pytest.mark.parametrize("for_user", [False, True])
    def test_opencode_has_one_list_for_the_command(self, home: Path, for_user: bool) -> None:
        request = replace(REQUEST, host=HostName.OPENCODE, for_user=for_user, env=("A=1",))
        install_server(request)
        file = home / (".config/opencode/opencode.json" if for_user else "project/opencode.json")
        entry = entry_of(home)
        command = [entry["command"], *entry["args"]]
        expected = {"type": "local", "command": command, "environment": {"A": "1"}, "enabled": True}
        assert json.loads(file.read_text()) == {"mcp": {"my-tools": expected}}
        written(file, json.dumps({"mcp": {"mine": expected | {"enabled": False}}}))
        install_server(replace(request, env=("B=2",)))
        both = expected | {"enabled": False, "environment": {"A": "1", "B": "2"}}
        assert json.loads(file.read_text()) == {"mcp": {"mine": both}}, "what the user has switched off stays so"
        install_server(replace(request, target=None, env=(), remove="mine"))
        assert json.loads(file.read_text()) == {"mcp": {}}

    def test_codex_keeps_its_servers_in_toml(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = 'model = "gpt-5" # the best\n\n[mcp_servers.other]\ncommand = "x"\n'
        file = written(home / ".codex" / "config.toml", text)
        request = replace(REQUEST, host=HostName.CODEX, env=("A=1",))
        install_server(request)
        assert file.read_text().startswith(text), "every other character stays"
        ours = tomllib.loads(file.read_text())["mcp_servers"]["my-tools"]
        assert ours == entry_of(home, env={"A": "1"}, required=True, startup_timeout_sec=60)
        install_server(replace(request, env=("A=2", "B=3")))
        assert tomllib.loads(file.read_text())["mcp_servers"]["my-tools"]["env"] == {"A": "2", "B": "3"}
        install_server(replace(request, target=None, env=(), remove="my-tools"))
        assert file.read_text() == text
        monkeypatch.setenv("CODEX_HOME", str(home / "elsewhere"))
        install_server(request)
        assert "my-tools" in (home / "elsewhere" / "config.toml").read_text()

    def test_codex_waits_for_the_server_unless_its_user_has_said_otherwise(self, home: Path) -> None:
        """Its first turn waits a second for a server that is not required, and then goes on without its tools."""
        file = written(home / ".codex" / "config.toml", "")
        request = replace(REQUEST, host=HostName.CODEX)
        install_server(request)
        file.write_text(file.read_text().replace("required = true", "required = false"))
        install_server(replace(request, env=("A=1",)))
        ours = tomllib.loads(file.read_text())["mcp_servers"]["my-tools"]
        assert (ours["required"], ours["startup_timeout_sec"], ours["env"]) == (False, 60, {"A": "1"})

    @pytest.mark.parametrize("text", ["model = ", 'mcp_servers = { other = { command = "x" } }'])
    def test_a_toml_file_that_cannot_be_changed_is_left_alone(self, home: Path, text: str) -> None:
        file = written(home / ".codex" / "config.toml", text)
        with pytest.raises(UsageError) as caught:
            install_server(replace(REQUEST, host=HostName.CODEX))
        assert "left alone" in str(caught.value)
        assert tomllib.loads(str(caught.value).partition("by hand:\n")[2])["mcp_servers"], "to be pasted"
        assert file.read_text() == text

    def test_a_host_can_start_what_was_installed(self, tmp_path: Path) -> None:
        """Only from its file: the working directory and the environment are the host's."""
        cli = CommandLine(tmp_path)
        cli.environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}
        done = cli.run("install", "claude-desktop", "server.py", "--yes", "--env", "TASKMILL_PREFIX=mine")
        assert done.returncode == 0, done.stderr
        file = tmp_path / "config" / "Claude" / "claude_desktop_config.json"
        (entry,) = json.loads(file.read_text())["mcpServers"].values()
        bare = {key: cli.environment[key] for key in ("HOME", "XDG_STATE_HOME", "TEST_FOLDER")}
        command = [entry["command"], *entry["args"]]
        try:
            with RawHost.started(
                command, bare | {"PATH": "/usr/bin:/bin"} | entry["env"], Path("/"), tmp_path / "log"
            ) as host:
                assert "dig" in [tool["name"] for tool in host.request("tools/list")["tools"]]
        finally:
            cli.clear()


class TestWhatStays:
    OTHERS = (
        '{\r\n\t"theme" : "dark",\r\n\t"mcpServers": {\r\n\t\t"b": {"command":"x"},\r\n'
        '\t\t"a": {"url": "http://y"}\r\n\t},\r\n\t"z": [1,2 ]\r\n}'
    )

    def test_every_other_character(self, home: Path) -> None:
        file = written(home / ".cursor" / "mcp.json", self.OTHERS)
        file.chmod(0o640)
        install_server(replace(REQUEST, for_user=True))
        text = file.read_bytes().decode()
        at = text.index(',\r\n\t\t"my-tools"')
        added = len(text) - len(self.OTHERS)
        assert text[:at] + text[at + added :] == self.OTHERS
        assert list(json.loads(text)["mcpServers"]) == ["b", "a", "my-tools"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        (backup,) = backups_of(file)
        assert backup.read_bytes().decode() == self.OTHERS
        assert stat.S_IMODE(backup.stat().st_mode) == 0o640

        install_server(replace(REQUEST, for_user=True, target=None, remove="my-tools"))
        assert file.read_bytes().decode() == self.OTHERS
        assert len(backups_of(file)) == 2, "no backup takes another's place"
        assert sorted(path.name for path in file.parent.iterdir()) == sorted(
            [file.name, *(path.name for path in backups_of(file))]
        ), "nothing is left lying about"

    def test_the_second_time_nothing_changes(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        install_server(REQUEST)
        file = home / "project" / ".cursor" / "mcp.json"
        before = file.stat()
        capsys.readouterr()
        install_server(replace(REQUEST, yes=False))
        assert capsys.readouterr().out.startswith("taskmill: Nothing to change: Cursor has my-tools in ")
        assert file.stat() == before
        assert backups_of(file) == []

    def test_what_the_user_has_added_to_our_entry(self, home: Path) -> None:
        old = {"type": "stdio", "disabled": True, "command": "/old/taskmill", "args": entry_of(home)["args"]}
        old["env"] = {"TOKEN": "t", "LEVEL": "1"}
        file = written(home / ".cursor" / "mcp.json", json.dumps({"mcpServers": {"mine": old}}, indent=4))
        install_server(replace(REQUEST, for_user=True, env=("LEVEL=2",)))
        expected = old | {"command": entry_of(home)["command"], "env": {"TOKEN": "t", "LEVEL": "2"}}
        assert json.loads(file.read_text()) == {"mcpServers": {"mine": expected}}, "under the name that it has"

    def test_comments_of_vs_code(self, home: Path) -> None:
        text = '// mine\n{\n  "inputs": [], // none\n  "servers": {\n    // no servers yet\n  },\n}\n'
        file = written(home / "project" / ".vscode" / "mcp.json", text)
        install_server(replace(REQUEST, host=HostName.VSCODE))
        for comment in ("// mine", "// none", "// no servers yet"):
            assert comment in file.read_text()
        install_server(replace(REQUEST, host=HostName.VSCODE, target=None, remove="my-tools"))
        assert file.read_text() == text

    def test_a_symbolic_link_is_followed(self, home: Path) -> None:
        real = written(home / "dotfiles" / "cursor.json", '{"mcpServers": {}}')
        link = home / ".cursor" / "mcp.json"
        link.parent.mkdir()
        link.symlink_to("../dotfiles/cursor.json")
        install_server(replace(REQUEST, for_user=True))
        assert link.is_symlink()
        assert json.loads(real.read_text())["mcpServers"] == {"my-tools": {"type": "stdio"} | entry_of(home)}
        assert backups_of(real)

    def test_a_byte_order_mark(self, home: Path) -> None:
        file = written(home / ".cursor" / "mcp.json", "\ufeff{}")
        install_server(replace(REQUEST, for_user=True))
        assert file.read_bytes().startswith(b"\xef\xbb\xbf{")

    @pytest.mark.parametrize("text", ["", " \n"])
    def test_an_empty_file_is_filled(self, home: Path, text: str) -> None:
        file = written(home / ".cursor" / "mcp.json", text)
        install_server(replace(REQUEST, for_user=True))
        assert list(json.loads(file.read_text())["mcpServers"]) == ["my-tools"]

    def test_a_new_file_with_a_secret_is_private(self, home: Path) -> None:
        install_server(replace(REQUEST, env=("TOKEN=a=b",)))
        file = home / "project" / ".cursor" / "mcp.json"
        assert json.loads(file.read_text())["mcpServers"]["my-tools"]["env"] == {"TOKEN": "a=b"}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_a_change_by_another_program_in_the_meantime(self, home: Path) -> None:
        file = written(home / ".cursor" / "mcp.json", "{}")
        config = read_config(file)
        file.write_text('{"new": 1}')
        with pytest.raises(OperatorError, match="changed meanwhile"):
            config.replace("{ }", private=False)
        assert file.read_text() == '{"new": 1}'
        assert backups_of(file) == []

    def test_a_disk_that_is_full(self, home: Path) -> None:
        file = written(home / ".cursor" / "mcp.json", "{}")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            with pytest.raises(OperatorError, match="Cannot write"):
                read_config(file).replace('{"a": 1}', private=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [(path, path.read_text()) for path in file.parent.iterdir()] == [(file, "{}")]


class TestNames:
    @pytest.mark.parametrize(
        ("source", "file", "name"),
        [
            (SERVER, "server.py", "my-tools"),
            (SERVER.replace('"My tools!"', ""), "weather.py", "weather"),
            (SERVER.replace('"My tools!"', ""), "server.py", "project"),
            (SERVER.replace("My tools!", "Größe 2"), "server.py", "gr-e-2"),
            (SERVER.replace("My tools!", "天気"), "server.py", "taskmill"),
        ],
    )
    def test_the_server_gives_its_name(self, home: Path, source: str, file: str, name: str) -> None:
        (home / "project" / file).write_text(source)
        install_server(replace(REQUEST, target=file))
        assert list(json.loads((home / "project" / ".cursor" / "mcp.json").read_text())["mcpServers"]) == [name]

    def test_an_object_in_a_file_keeps_its_name(self, home: Path) -> None:
        install_server(replace(REQUEST, target="server.py:mcp", name="chosen"))
        file = home / "project" / ".cursor" / "mcp.json"
        entry = json.loads(file.read_text())["mcpServers"]["chosen"]
        assert entry["args"] == ["stdio", f"{home / 'project' / 'server.py'}:mcp"]

    def test_a_module_is_installed_under_its_dotted_name(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is found in any working directory, as an installed package is."""
        written(home / "site" / "toolbox" / "tools.py", SERVER)
        monkeypatch.syspath_prepend(str(home / "site"))
        install_server(replace(REQUEST, target="toolbox.tools:mcp"))
        file = home / "project" / ".cursor" / "mcp.json"
        assert json.loads(file.read_text())["mcpServers"]["my-tools"]["args"] == ["stdio", "toolbox.tools:mcp"]


class TestRefusals:
    def refused(self, request: InstallRequest, kind: type[Exception] = UsageError) -> str:
        with pytest.raises(kind) as caught:
            install_server(request)
        return str(caught.value)

    def test_a_name_that_starts_something_else(self, home: Path) -> None:
        text = '{"mcpServers": {"my-tools": {"command": "npx", "args": ["stdio", "x"]}, "remote": {"url": "http://x"}}}'
        file = written(home / ".cursor" / "mcp.json", text)
        request = replace(REQUEST, for_user=True)
        assert "'my-tools' in" in (message := self.refused(request))
        assert "--name" in message
        assert "no server of Taskmill" in self.refused(replace(request, target=None, remove="my-tools"))
        assert "no server of Taskmill" in self.refused(replace(request, target=None, remove="remote"))
        assert "'absent'" in self.refused(replace(request, target=None, remove="absent"))
        assert file.read_text() == text
        install_server(replace(request, name="other"))
        assert list(json.loads(file.read_text())["mcpServers"]) == ["my-tools", "remote", "other"]

    def test_a_name_of_another_of_our_servers(self, home: Path) -> None:
        install_server(REQUEST)
        (home / "project" / "second.py").write_text(SERVER)
        assert "starts something else already" in self.refused(replace(REQUEST, target="second.py"))

    @pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor"])
    @pytest.mark.parametrize(
        ("text", "expected_text"),
        [
            pytest.param('{"mcpServers": {},}', "line 1, column 18: a comma before the closing bracket", id="comma"),
            pytest.param("{\n  // note\n}", "line 2, column 3", id="comment"),
            pytest.param("[]", "the whole is not an object", id="a list"),
            pytest.param('{"mcpServers": []}', '"mcpServers" is not an object', id="servers in a list"),
            pytest.param('{"mcpServers": {}, "mcpServers": {}}', '"mcpServers" is there twice', id="twice"),
        ],
    )
    def test_a_file_of_another_form(self, home: Path, host: str, text: str, expected_text: str) -> None:
        request = replace(REQUEST, host=HostName(host), for_user=True)
        file = config_path_of(HOSTS[request.host], None, home, {})
        written(file, text)
        message = self.refused(request)
        assert f"so it is left alone: {expected_text}" in message
        snippet = message[message.index("\n{") :]
        assert list(json.loads(snippet)["mcpServers"]) == ["my-tools"], "to be pasted"
        assert "left alone" in self.refused(replace(request, target=None, remove="my-tools"))
        assert file.read_text() == text
        assert backups_of(file) == []

    def test_a_file_that_is_not_text(self, home: Path) -> None:
        file = written(home / ".cursor" / "mcp.json", "")
        file.write_bytes('{"a": "ü"}'.encode("utf-16"))
        assert "is not UTF-8 text" in self.refused(replace(REQUEST, for_user=True))

    def test_a_folder_in_the_files_place(self, home: Path) -> None:
        (home / ".cursor" / "mcp.json").mkdir(parents=True)
        assert "Cannot read" in self.refused(replace(REQUEST, for_user=True), OperatorError)

    def test_a_file_that_is_no_server(self, home: Path) -> None:
        (home / "project" / "empty.py").write_text("x = 1\n")
        assert "has no server object" in self.refused(replace(REQUEST, target="empty.py"), ServerLoadError)
        assert "There is no file" in self.refused(replace(REQUEST, target="absent.py"), ServerLoadError)
        (home / "project" / "broken.py").write_text("1 / 0\n")
        assert "traceback above" in self.refused(replace(REQUEST, target="broken.py"), ServerLoadError)
        assert not (home / "project" / ".cursor").exists()

    def test_a_module_that_is_found_from_here_only(self, home: Path) -> None:
        (home / "project" / "only_here.py").write_text(SERVER)
        assert "name its file instead" in self.refused(replace(REQUEST, target="only_here:mcp"))

    def test_a_path_that_the_host_would_rewrite(self, home: Path) -> None:
        written(home / "project" / "${x}" / "server.py", SERVER)
        assert "for a variable" in self.refused(replace(REQUEST, target="${x}/server.py"))
        install_server(replace(REQUEST, host=HostName.CLAUDE_DESKTOP, target="${x}/server.py"))

    @pytest.mark.parametrize(
        ("changes", "expected_text"),
        [
            ({"target": None}, "Name the server's file"),
            ({"name": "my tools"}, "'my tools' cannot be a server's name"),
            ({"name": ""}, "'' cannot be a server's name"),
            ({"env": ("TOKEN",)}, "'TOKEN' is not a variable"),
            ({"env": ("A-B=1",)}, "'A-B=1' is not a variable"),
            ({"env": ("A=1", "A=2")}, "A is given twice"),
            ({"remove": "x", "target": "server.py"}, "--remove takes"),
        ],
    )
    def test_options_that_do_not_fit_together(self, home: Path, changes: dict[str, Any], expected_text: str) -> None:
        assert expected_text in self.refused(replace(REQUEST, **changes))
        assert not (home / "project" / ".cursor").exists()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    with CommandLine(tmp_path, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}) as command_line:
        command_line.write("server.py", SERVER)
        yield command_line


class TestCommand:
    def test_without_a_terminal_it_needs_yes_or_dry_run(self, cli: CommandLine) -> None:
        done = cli.run("install", "cursor", "server.py")
        assert done.returncode == 2
        assert '+    "my-tools": {' in done.stdout
        assert "printed by the author" not in done.stdout
        assert "--yes" in done.stderr
        assert not (cli.folder / ".cursor").exists()

    def test_only_variables_of_the_shell_are_reported_as_not_passed_on(self, cli: CommandLine) -> None:
        """Not those that the command itself has set while it looked into the file."""
        words = ("install", "codex", "server.py", "--dry-run")
        home = {"HOME": str(cli.folder)}
        del cli.environment["TASKMILL_HOME"], cli.environment["TASKMILL_GRACE"]
        assert "Hosts do not see" not in cli.run(*words, **home).stderr
        assert "this shell's TASKMILL_LEASE" in cli.run(*words, TASKMILL_LEASE="20", **home).stderr

    def test_a_dry_run_shows_and_changes_nothing(self, cli: CommandLine) -> None:
        done = cli.run("install", "vscode", "server.py", "--dry-run", TASKMILL_REDIS_URL="redis://:secret@x")
        assert done.returncode == 0
        assert done.stdout.startswith("--- /dev/null\n+++ ")
        assert "TASKMILL_REDIS_URL" in done.stderr
        assert "secret" not in done.stdout + done.stderr
        assert not (cli.folder / ".vscode").exists()

    def test_an_unknown_host_lists_the_known_ones(self, cli: CommandLine) -> None:
        done = cli.run("install", "emacs", "server.py")
        assert done.returncode == 2
        for host in HostName:
            assert host in done.stderr

    @pytest.mark.parametrize(("answer", "is_changed"), [("y", True), ("n", False), ("", False)])
    def test_at_a_terminal_it_asks(self, cli: CommandLine, answer: str, is_changed: bool) -> None:
        with closing(Screen(cli, ["install", "cursor", "server.py"])) as screen:
            screen.wait_for('"my-tools"')
            screen.wait_for("[y/N] ")
            screen.type(f"{answer}\n")
            screen.wait_for("Now Cursor has my-tools" if is_changed else "Nothing was changed")
            assert screen.end() == 0
        assert (cli.folder / ".cursor" / "mcp.json").exists() == is_changed
