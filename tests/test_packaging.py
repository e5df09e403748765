"""What is shipped: the wheel against the files git knows, and what no committed file may contain.

"Committed" means tracked, or untracked and not ignored: what the next commit would hold. The tests marked `wheel` run a
second time from the environment into which scripts/test installed the built wheel.
"""

import importlib
import importlib.resources
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "store", "workers", "server", "adapters", "console", "cli", "testing")

# Written in pieces, so that this file passes its own test.
REGISTRIES = [
    ".".join(labels) for labels in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("yarnpkg", "com"))
]
MACHINE_PATHS = ["/" + path for path in ("work/", "root/", "tmp/dev", "opt/pypi", "opt/wheels")]

PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def test_the_bill_of_materials_names_what_is_pinned_with_its_hashes() -> None:
    made = subprocess.run([sys.executable, ROOT / "scripts" / "sbom"], capture_output=True, text=True, check=True)
    bill = json.loads(made.stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "1.6",
        "taskmill",
    )
    pinned = PIN.findall((ROOT / "constraints" / "runtime.txt").read_text(encoding="utf-8"))
    assert [(one["name"], one["version"]) for one in bill["components"]] == pinned
    assert [one["name"] for one in bill["components"] if not one["hashes"]] == []
    assert bill["dependencies"][0]["dependsOn"] == [f"pkg:pypi/{name}@{version}" for name, version in pinned]


def committed_files() -> list[str]:
    """Paths from the root, "/" between the parts."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what would be committed is unknown")
    listing = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted({name for name in listing.split("\0") if name and (ROOT / name).is_file()})


def committed_text() -> list[tuple[str, str]]:
    """Path and text of each committed file that is text."""
    found = []
    for name in committed_files():
        try:
            found.append((name, (ROOT / name).read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy of the committed files, so that no old build output slips in."""
    source = tmp_path_factory.mktemp("source")
    for name in committed_files():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run([*pip, str(out), "."], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the wheel does not build:\n{done.stdout}\n{done.stderr}"
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_committed_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"taskmill/{name}" for name in committed_files() if name.split("/", 1)[0] in ROOMS}
    wanted |= {name.replace("package/", "taskmill/") for name in committed_files() if name.startswith("package/")}
    missing, extra = sorted(wanted - shipped), sorted(shipped - wanted)
    assert not missing, f"not in the wheel; add them to [tool.setuptools] in pyproject.toml: {missing}"
    assert not extra, f"in the wheel, but not among the files of the rooms: {extra}"


def test_the_wheel_holds_scripts_types_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = archive.namelist()
    assert {f"taskmill/{room}/py.typed" for room in ROOMS} <= set(shipped)
    assert any(name.startswith("taskmill/store/lua/") and name.endswith(".lua") for name in shipped)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in shipped)


@pytest.mark.parametrize("words", [REGISTRIES, MACHINE_PATHS], ids=["registry-host", "machine-path"])
def test_no_committed_file_names_a_registry_or_a_path_of_one_machine(words: list[str]) -> None:
    pattern = re.compile(
        "|".join(rf"(?<![\w.~-]){re.escape(word)}" if word[0] == "/" else re.escape(word) for word in words)
    )
    problems = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, text in committed_text()
        for match in pattern.finditer(text)
    ]
    assert not problems, "write it without the host or path:\n" + "\n".join(problems)


def test_no_lock_file_carries_addresses() -> None:
    locks = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml")
    problems = [name for name in committed_files() if Path(name).name in locks]
    for name, text in committed_text():
        if Path(name).name in ("package-lock.json", "npm-shrinkwrap.json") and '"resolved"' in text:
            problems.append(name)
    assert not problems, f"pins live in constraints/ (scripts/lock); remove or clean: {problems}"


@pytest.mark.parametrize("name", ["build", "runtime", "dev", "peers", "mcp1", "docs", "openai-agents", "redis62"])
def test_every_pin_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert entries
    assert [entry for entry in entries if not PIN.match(entry) or "--hash=sha256:" not in entry] == []
    assert re.findall(r"\w+://\S+|^--?[a-z].*|^/.*| @ .*", text, re.MULTILINE) == []


def test_development_runs_on_the_versions_that_ship() -> None:
    pins = {
        name: set(PIN.findall((ROOT / "constraints" / f"{name}.txt").read_text()))
        for name in ("runtime", "dev", "build")
    }
    drifted = sorted((pins["runtime"] | pins["build"]) - pins["dev"])
    assert not drifted, f"constraints/dev.txt lacks these; run scripts/lock: {drifted}"


def test_every_dependency_in_pyproject_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    asked = {
        "runtime": project["project"]["dependencies"],
        "build": project["build-system"]["requires"] + groups["build"],
        "dev": [entry for entry in groups["dev"] if isinstance(entry, str)],
        "peers": groups["peers"],
        "mcp1": groups["mcp1"],
        "docs": groups["docs"],
        "openai-agents": groups["openai-agents"],
        "redis62": groups["redis62"],
    }
    for name, requirements in asked.items():
        pinned = {pin for pin, _ in PIN.findall((ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8"))}
        wanted = {re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0].lower() for requirement in requirements}
        assert wanted <= pinned, f"not in constraints/{name}.txt; run scripts/lock: {sorted(wanted - pinned)}"


def test_scripts_run_from_anywhere() -> None:
    """Each starts with a shebang, has its executable bit and goes to the root by itself."""
    scripts = [ROOT / name for name in committed_files() if name.startswith(("scripts/", ".ci/"))]
    shells = [
        path for path in scripts if path.read_text(encoding="utf-8").startswith(("#!/usr/bin/env bash", "#!/bin/sh"))
    ]
    assert [str(path) for path in scripts if "." not in path.name and not os.access(path, os.X_OK)] == []
    assert [str(path) for path in shells if 'cd "$(dirname "$0")/..' not in path.read_text(encoding="utf-8")] == []
    for path in shells:
        subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.wheel
def test_every_installed_module_imports() -> None:
    for room in ROOMS:
        package = importlib.import_module(f"taskmill.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)


@pytest.mark.wheel
def test_the_scripts_are_read_from_the_installed_package() -> None:
    folder = importlib.resources.files("taskmill.store") / "lua"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".lua"))
    assert names == sorted(path.name for path in (ROOT / "store" / "lua").glob("*.lua"))
    assert all(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


@pytest.mark.wheel
def test_the_command_is_installed_and_answers() -> None:
    [script] = entry_points(group="console_scripts", name="taskmill")
    assert script.value == "taskmill.cli.main:main"
    command = Path(sys.executable).parent / "taskmill"
    done = subprocess.run([str(command), "--help"], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert [word for word in ("run", "serve", "worker", "call", "doctor") if word not in done.stdout] == []


@pytest.mark.wheel
def test_what_runs_is_what_the_environment_promises() -> None:
    """Under scripts/test's second run the wheel must be what is imported; in development it is the checkout."""
    where = Path(importlib.import_module("taskmill.engine").__file__ or "").resolve()
    expect_wheel = os.environ.get("TASKMILL_TEST_WHEEL") == "1"
    assert where.is_relative_to(ROOT / "engine") is not expect_wheel, f"taskmill.engine comes from {where}"


@pytest.mark.wheel
def test_type_checkers_find_the_installed_types() -> None:
    assert [room for room in ROOMS if not (importlib.resources.files(f"taskmill.{room}") / "py.typed").is_file()] == []


PROJECT = """
import pytest, sys

@pytest.fixture(scope="session")
def valkeylite():
    return "the project's own"

@pytest.fixture(scope="module")
def valkey_client(valkeylite):
    return valkeylite

@pytest.fixture
def redis():
    return "a fixture of this name too"

def test_fixtures_of_the_project_go_first(valkey_client, redis, request):
    assert request.config.pluginmanager.has_plugin("valkey")
    assert (valkey_client, redis) == ("the project's own", "a fixture of this name too")
"""


def test_the_pytest_plugin_that_comes_with_the_bundled_server_breaks_no_project(tmp_path: Path) -> None:
    """valkeylite registers one; a user's pytest loads it once Taskmill is installed, with every warning an error."""
    (tmp_path / "test_project.py").write_text(PROJECT, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "valkey"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_finding_the_bundled_server_imports_no_package_of_it() -> None:
    code = (
        "import sys; from taskmill.store.embedded.binary import find_server; find_server();"
        "sys.exit('valkeylite' in sys.modules or 'valkey' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
