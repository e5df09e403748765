"""Runs a command and writes the processor time of every process that it started: `cpu_of.py FILE WORD...`.

Processes that outlive the command, such as a Redis that ends a moment later, are waited for and counted.
"""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36

if sys.platform == "linux":
    # What loses its parent becomes a child of this process, and so is counted when it ends.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
code = subprocess.run(sys.argv[2:], check=False).returncode
with contextlib.suppress(ChildProcessError):
    while True:
        os.wait()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
Path(sys.argv[1]).write_text(str(used.ru_utime + used.ru_stime))
sys.exit(code)
