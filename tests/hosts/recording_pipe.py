"""Starts a stdio server and keeps what both sides send, in a file of JSON lines: `recording_pipe.py FILE COMMAND...`.

A program that a host starts in the place of the server, so it imports nothing of the tests.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, BinaryIO


def main() -> int:
    """Pass lines on until the server ends; its exit code."""
    path, command = sys.argv[1], sys.argv[2:]
    lock = threading.Lock()

    def keep(what: str, **facts: Any) -> None:
        with lock, open(path, "a") as out:
            out.write(
                json.dumps({"at": round(time.time(), 3), "n": 0, "what": what, **facts}, ensure_ascii=False) + "\n"
            )

    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None

    def pass_signal_on(number: int, _frame: object) -> None:
        keep("signal", signal=signal.Signals(number).name)
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_signal_on)

    def copy(source: BinaryIO, target: BinaryIO, what: str) -> None:
        try:
            for line in iter(source.readline, b""):
                try:
                    body = json.loads(line)
                except ValueError:
                    body = line.decode(errors="replace")
                keep(what, body=body)
                target.write(line)
                target.flush()
        except (BrokenPipeError, ValueError) as exc:
            keep(f"{what} broke off", error=repr(exc))
        try:
            target.close()
        except OSError:
            pass

    threading.Thread(target=copy, args=(sys.stdin.buffer, child.stdin, "request"), daemon=True).start()
    back = threading.Thread(target=copy, args=(child.stdout, sys.stdout.buffer, "answer"), daemon=True)
    back.start()
    code = child.wait()
    back.join(30)
    keep("server ended", code=code)
    return code


if __name__ == "__main__":
    # At once: the thread that reads the host's words may still hold standard input, and Python would abort at that.
    os._exit(main())
