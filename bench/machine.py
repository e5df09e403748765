"""On what and with what a run was made: figures mean nothing without it."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.contenders import FASTMCP, QUEUES, Contender
from taskmill.store.embedded.binary import find_server

__all__ = ["facts"]

_OURS = ("taskmill", "mcp", "arq", "redis", "hiredis", "uvicorn", "uvloop", "httptools", "pydantic")
_QUEUES = {"taskiq": ("taskiq", "taskiq-redis")}
_THEIRS = ("fastmcp", "fastmcp-tasks", "pydocket", "mcp", "redis", "uvicorn", "uvloop", "httptools")
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def facts() -> dict[str, Any]:
    """Machine, date and versions; a version is None where the package is not installed, `peers` without FastMCP."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(one, 2) for one in os.getloadavg()],
        "python": platform.python_version(),
        "redis": _redis_version(),
        "versions": {name: _version(name) for name in _OURS},
        "peers": _versions_at(FASTMCP, *_THEIRS) if FASTMCP.is_installed() else None,
        "queues": {
            name: version
            for queue in QUEUES
            if queue.is_installed()
            for name, version in _versions_at(queue, *_QUEUES.get(queue.name, (queue.name,))).items()
        },
    }


def _versions_at(contender: Contender, *packages: str) -> dict[str, str | None]:
    command: list[str | Path] = [contender.python, "-c", _ASK, *packages]
    versions: dict[str, str | None] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return versions


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _redis_version() -> str | None:
    said = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bv=(\S+)", said)
    return found[1] if found else None
