"""What the files for deployments have in common: settings and flags that exist, and units that systemd accepts."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
import typer.main

from taskmill.cli.commands import app

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
FILES = [
    ROOT / "docker-compose.yml",
    *sorted(EXAMPLES.glob("kubernetes/*.yaml")),
    *sorted(EXAMPLES.glob("systemd/*")),
    EXAMPLES / "nginx" / "taskmill.conf",
    EXAMPLES / "caddy" / "Caddyfile",
]
NO_SETTINGS = {"TASKMILL_SERVER", "TASKMILL_TEST_LONG", "TASKMILL_TEST_LANES"}
"""Variables of a stock arq worker and of our own tests."""
UNITS = sorted(EXAMPLES.glob("systemd/*.service"))
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
}


class Unit(RawConfigParser):
    """A unit file; names keep their capitals."""

    def __init__(self, path: Path) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#",), strict=True)
        self.read_string(path.read_text(encoding="utf-8"))

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_files_and_pages_name_only_settings_that_exist() -> None:
    known = set(re.findall(r"`(TASKMILL_\w+)`", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")))
    known |= NO_SETTINGS
    unknown = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in (*FILES, *ROOT.glob("docs/*.md"))
        for name in re.findall(r"\bTASKMILL_[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8"))
        if name not in known
    }
    assert unknown == set()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_gives_a_command_that_exists_and_no_rights_that_it_does_not_need(unit: Path) -> None:
    service = Unit(unit)["Service"]
    _program, name, _file, *words = service["ExecStart"].split()
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # it is a group
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    assert {key: service.get(key) for key in HARDENED} == HARDENED
    assert service["User"] == "taskmill"
    assert "--redis-url" not in words, "all users of a machine see command lines"
    grace = float(words[words.index("--grace") + 1]) if "--grace" in words else 0.0
    assert float(service["TimeoutStopSec"]) > grace


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Its own check, where it is here; program and user are replaced, because it looks for them."""
    checker = shutil.which("systemd-analyze")
    instances = []
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/taskmill/bin/taskmill", "/bin/true")
        text = re.sub(r"^(User|Group)=taskmill$", r"\1=root", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
        instances.append(str(tmp_path / unit.name.replace("@", "@8000")))
    assert len(instances) == 2
    if checker is not None:
        done = subprocess.run([checker, "verify", *instances], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
