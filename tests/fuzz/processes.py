"""The attacked server as processes: `taskmill serve` and `taskmill worker` over a Redis, and what they log."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from redis.asyncio import Redis

from tests.fuzz.asgi import Answer, Asked
from tests.fuzz.oracle import ARGUMENT
from tests.fuzz.server import CRASH, RESULT
from tests.fuzz.target import OPERATOR_TOKEN, Target
from tests.support.redis_server import PrivateRedis

__all__ = ["RemoteTarget", "ServerProcesses"]

_FOLDER = Path(__file__).parent
_TASKMILL = Path(sys.executable).with_name("taskmill")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+(?=/mcp)")
_SEVERE = re.compile(r'"level": "(?:error|critical)"|Traceback \(most recent')
_LEFT = "ASGI callable returned without completing response."
"""What uvicorn says of the first of several requests sent in one go, when the connection goes amid its answer.

It lets only the last of them know, see `server/http/middleware.py`; the frame "many at once and then nonsense" shows it
each time. `tests/server/test_client_disconnects.py` holds the cause, and fails when uvicorn has mended it:
then this goes.
"""
_TIMEOUT = 60.0


class ServerProcesses:
    """A replica and a worker; all of it is gone at the end."""

    def __init__(self) -> None:
        self.redis = PrivateRedis()
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.address = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._read: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.redis.start()
        try:
            self._start("serve", "--port", "0")
            self._start("worker", "--concurrency", "200")
            self.address = self._until("serve", _ADDRESS)
            self._until("worker", re.compile("worker.started"))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def port(self) -> int:
        """Where the replica listens."""
        return int(self.address.rpartition(":")[2])

    def faults(self) -> list[str]:
        """What the logs have told since the last time that they must not, and processes that have ended."""
        ended = [
            f"taskmill {name} ended: {one.poll()}" for name, one in self._processes.items() if one.poll() is not None
        ]
        return ended + [fault for name in self._processes for fault in self._of_log(name)]

    def _of_log(self, name: str) -> list[str]:
        text = self._log(name).read_text(errors="replace")
        fresh, self._read[name] = text[self._read.get(name, 0) :], len(text)
        lines = [line for line in fresh.splitlines() if CRASH not in line and _LEFT not in line]
        secrets = [
            f"logged {secret}: {line[:300]}" for line in lines for secret in (ARGUMENT, RESULT) if secret in line
        ]
        return secrets + [f"logged a crash: {line[-600:]}" for line in lines if _SEVERE.search(line)]

    def _start(self, command: str, *words: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
        environment |= {
            "PYTHONPATH": str(_FOLDER.parents[1]),
            "TASKMILL_API_OPERATOR_TOKEN": OPERATOR_TOKEN,
            "TASKMILL_HANDOFF_AFTER": "0.05",
        }
        with self._log(command).open("wb") as output:
            self._processes[command] = subprocess.Popen(
                [str(_TASKMILL), command, str(_FOLDER / "guarded_server.py"), "--redis-url", self.redis.url, *words],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _until(self, name: str, words: re.Pattern[str]) -> str:
        deadline = time.monotonic() + _TIMEOUT
        while not (found := words.search(text := self._log(name).read_text(errors="replace"))):
            assert time.monotonic() < deadline, text
            assert self._processes[name].poll() is None, text
            time.sleep(0.02)
        return found[0]

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self.redis.stop()


class RemoteTarget(Target):
    """The same deployment behind an address: requests go over the network."""

    def __init__(self, redis: Redis, http: httpx2.AsyncClient, address: str) -> None:
        super().__init__(redis, {})
        self._http = http
        self._address = address

    async def send(self, app: str, asked: Asked) -> Answer:
        """One exchange; a stream is left after its first piece."""
        answer = Answer()
        content = {"headers": [*asked.headers], "content": asked.body}
        async with self._http.stream(asked.method, self._address + asked.target, **content) as response:
            answer.status, answer.headers = (
                response.status_code,
                [(name.lower(), value) for name, value in response.headers.raw],
            )
            async for piece in response.aiter_bytes():
                answer.body += piece
                if answer.is_stream:
                    return answer
        answer.is_whole = True
        return answer
