"""A process that has imported the commands, and forks one for each request: most of a command's time is its imports.

A script: `forked_commands.py` starts it and sends it requests. It imports nothing of the tests. A forked command is a
process as one that was executed is: it has its own standard streams, folder, environment and command line, in `/proc`
too.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    "taskmill.cli.commands",
    "taskmill.cli.client.call",
    "taskmill.cli.doctor.command",
    "taskmill.cli.serving.run",
    "taskmill.cli.serving.serve",
    "taskmill.cli.serving.worker",
    "taskmill.cli.tasks.operations",
    "taskmill.cli.tasks.redis_source",
    "taskmill.cli.tasks.http_source",
)
_LONGEST = 1024 * 1024


def main() -> None:
    """Serve at the socket `sys.argv[1]` until standard input ends; in a forked process, run the command and end."""
    address, program = sys.argv[1:3]
    sys.path[0] = os.path.dirname(program)
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    request = _next_request(address)
    if request is not None:
        _become(program, request)
        from taskmill.cli.main import main as command

        command()


def _next_request(address: str) -> dict[str, Any] | None:
    """Returns in a forked process with what to run, or in this one, with None, when its starter has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no one waits for the forks: each has a process that does
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = [key.fd for key, _ in selector.select()]
            if 0 in ready:
                return None
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    return _fork_command(connection)


def _fork_command(connection: socket.socket) -> dict[str, Any]:
    """Read the request and fork its process, in which this returns; report its id, its end, and end too."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, descriptors, _, _ = socket.recv_fds(connection, _LONGEST, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(_LONGEST)
    pid = os.fork()
    if pid:
        _report(connection, pid, descriptors)
    connection.close()
    with open(os.devnull) as empty:
        os.dup2(empty.fileno(), 0)
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    request: dict[str, Any] = json.loads(data)
    return request


def _report(connection: socket.socket, pid: int, descriptors: list[int]) -> NoReturn:
    for descriptor in (0, 1, 2, *descriptors):
        os.close(descriptor)
    with contextlib.suppress(OSError):  # its starter has ended
        connection.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _become(program: str, request: dict[str, Any]) -> None:
    """Be what executing `program` with the words would be."""
    words, environment = request["words"], request["environment"]
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    # The process's own variables are in its first memory until each is set anew.
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *words]
    # What `multiprocessing` runs again in the processes that a tool starts.
    started = sys.modules["__main__"]
    started.__spec__, started.__file__ = None, program
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    _show(fields[45:47], [sys.executable, program, *words])
    _show(fields[47:49], [f"{name}={value}" for name, value in environment.items()])


def _show(place: list[str], texts: list[str]) -> None:
    """Let `/proc` show these texts, in the room that the starter has made: proc_pid_stat(5), fields 48 to 51."""
    start, end = map(int, place)
    shown = b"".join(text.encode(errors="surrogateescape") + b"\0" for text in texts)
    assert len(shown) <= end - start, "the starter has made too little room"
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(shown.ljust(end - start, b"\0"))


if __name__ == "__main__":
    main()
