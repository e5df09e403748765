"""Programs that no package index has: looked for on PATH, and installed where a machine builds."""

import os
import shutil
import subprocess
from collections.abc import Sequence

__all__ = ["find_program"]


def find_program(names: Sequence[str], package: str) -> str | None:
    """The first of these programs that is on PATH, None if there is none. `package`: what Debian has it in.

    A machine that builds is no one's own, so the package is added there; elsewhere no test adds any to the system.
    """
    for _ in range(2):
        if found := next(filter(None, map(shutil.which, names)), None):
            return found
        if not (os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get")):
            return None
        quiet = ["-qq", "-y", "--no-install-recommends"]
        for words in (["apt-get", "update", "-qq"], ["apt-get", "install", *quiet, package]):
            subprocess.run(words, check=False, capture_output=True)
    return None
