"""The oldest Redis that Taskmill supports, as real programs: redis-server and redis-cli 6.2."""

import os
import platform
import sys
from pathlib import Path

import pytest

__all__ = ["oldest_redis"]

_PROGRAMS = Path(__file__).resolve().parents[2] / ".venv-redis62" / "bin"


def oldest_redis() -> Path:
    """The folder with both. Where they are not there the test is skipped; in CI it fails, if they can be had there."""
    if not (_PROGRAMS / "redis-server").exists():
        can_be_had = sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13)
        command = "scripts/aside .venv-redis62 constraints/redis62.txt"
        if os.environ.get("CI") and can_be_had:
            pytest.fail(f"Redis 6.2 must be there in CI: {command}")
        pytest.skip(f"REDIS 6.2 IS NOT HERE: {command} installs it on Linux x86-64 with a Python below 3.13")
    return _PROGRAMS
