"""A backup of Redis and its way back, by the very commands of docs/deployment.md: tasks go on in the new Redis."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskmill.store.embedded.binary import find_server
from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.oldest_redis import oldest_redis
from tests.support.redis_server import PrivateRedis, free_port
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
LEASE = 1.0


def commands_of(section: str) -> list[str]:
    """The lines of the code block of a section."""
    block = re.search(rf"^### {section}\n.*?```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None, section
    return block[1].splitlines()


class Shell:
    """Runs the page's commands in a folder; its addresses, ports and paths are this machine's."""

    def __init__(self, folder: Path, port: int, new_port: int) -> None:
        self.folder = folder
        self._words = {
            "-h redis.internal": f"-p {port}",
            "6390": str(new_port),
            "/var/lib/redis-new": str(folder / "new"),
            "redis-server ": f"{find_server()} --logfile redis.log ",
        }
        programs = Path(found).parent if (found := shutil.which("redis-cli")) else oldest_redis()
        self._environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def command(self, line: str) -> str:
        """The line as it is run here."""
        for there, here in self._words.items():
            line = line.replace(there, here)
        return line

    def run(self, line: str) -> str:
        """What a command prints; it must end well."""
        done = subprocess.run(
            ["sh", "-c", self.command(line)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def started(self, line: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A server by a command."""
        words = self.command(line).removesuffix(" &").split()
        process = subprocess.Popen(words, cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def answers(self, line: str) -> bool:
        """Whether a command ends well."""
        words = ["sh", "-c", self.command(line)]
        return subprocess.run(words, env=self._environment, capture_output=True, check=False).returncode == 0


async def test_tasks_go_on_in_a_redis_that_was_made_from_a_backup(tmp_path: Path) -> None:
    """One had ended, one ran, one asked, one waited; nothing of the first Redis is left."""
    gate, port, new_port = tmp_path / "gate", free_port(), free_port()
    shell = Shell(tmp_path, port, new_port)
    [back_up] = commands_of("Backup")
    make_folder, load, log_writes, look, *_rest = commands_of("Restore")
    with PrivateRedis(port=str(port), appendonly="yes") as redis:
        settings = StoreSettings(redis_url=redis.url)
        async with client_of(make_server(settings)) as rpc:
            async with working(make_server(settings), settings, concurrency=2, lease=LEASE):
                ended = await rpc.task("steps", count=1)
                was = await rpc.done(ended)
                asked = await rpc.task("ask")
                while len((question := await rpc.until(asked, "input_required"))["inputRequests"]) < 2:
                    await asyncio.sleep(0.01)
                ran = await rpc.task("until_exists", path=str(gate))
                async with open_store(settings) as store:
                    while (first := await store.read(ran, OPERATOR)).record.fence == 0:
                        await asyncio.sleep(0.01)
            waiting = await rpc.task("steps", count=2)
            await asyncio.to_thread(shell.run, back_up)
            lost = await rpc.task("steps", count=3)

    await asyncio.to_thread(shell.run, make_folder)
    with shell.started(load) as server:
        eventually(lambda: shell.answers("redis-cli -p 6390 ping | grep -q PONG"))
        shell.run(log_writes)
        eventually(lambda: shell.answers(look))
        server.kill()
    always = load.replace("--appendonly no", "--appendonly yes")
    with shell.started(always):
        eventually(lambda: shell.answers("redis-cli -p 6390 ping | grep -q PONG"))
        settings = StoreSettings(redis_url=f"redis://127.0.0.1:{new_port}/0")
        async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings, lease=LEASE):
            assert (await rpc.get(ended))["result"]["result"] == was["result"]
            gate.touch()
            answers = {key: {"action": "accept", "content": {"name": "Ada"}} for key in question["inputRequests"]}
            await rpc.ask("tasks/update", {"taskId": asked, "inputResponses": answers}, name=asked)
            for task_id in (ran, asked, waiting):
                assert (await rpc.done(task_id))["status"] == "completed"
            async with open_store(settings) as store:
                assert (await store.read(ran, OPERATOR)).record.fence > first.record.fence, "no fence comes twice"
            assert (await rpc.get(lost))["error"]["code"] == -32602, "it came after the backup"
