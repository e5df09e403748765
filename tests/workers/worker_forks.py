"""Starts worker processes quickly: a program that has everything imported, and forks one worker for each order.

What it forks is a process like any other, with signals and an exit code of its own; only the import time is saved.
Orders are JSON lines on standard input: `log`, a file for the worker's output, `env`, `preload` (modules to import
before the fork), and the order of `run_worker`.
Each is answered with a process id. When the worker has ended, its exit code, or minus the signal, is in `<log>.exit`.
"""

import importlib
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import run_worker


def fork_worker(order: dict[str, Any]) -> int:
    """Fork a worker; its process id."""
    for name in order.get("preload", ()):
        importlib.import_module(name)
    pid = os.fork()
    if pid == 0:
        _live(order)
    return pid


def _live(order: dict[str, Any]) -> NoReturn:
    code = 70
    try:
        nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order.get("env", {}))
        run_worker.main(order)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Take orders until there is nobody to give them."""
    logs: dict[int, str] = {}
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.02 if logs else None)
        if ready:
            said = os.read(0, 65536)
            if not said:
                return
            *lines, pending = (pending + said).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = fork_worker(order)
                logs[pid] = order["log"]
                os.write(1, f"{pid}\n".encode())
        for pid in list(logs):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                told = Path(logs.pop(pid) + ".exit")
                told.with_suffix(".part").write_text(str(os.waitstatus_to_exitcode(status)))
                told.with_suffix(".part").rename(told)


if __name__ == "__main__":
    sys.stdout = sys.stderr  # standard output is the line to the tests
    main()
