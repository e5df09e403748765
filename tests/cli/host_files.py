"""A user's home with a project and a server in it, and the files of hosts there."""

from pathlib import Path

import pytest

__all__ = ["SERVER", "backups_of", "home", "written"]

SERVER = '''
from taskmill.server import TaskServer

print("printed by the author")
mcp = TaskServer("My tools!")


@mcp.tool(task=True)
async def work() -> str:
    """Work."""
    return "worked"
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home directory, and a project in it as the working directory."""
    home = tmp_path / "home"
    project = home / "project"
    project.mkdir(parents=True)
    (project / "server.py").write_text(SERVER)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(project)
    return home


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def backups_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.backup"))
