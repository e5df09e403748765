"""Artifacts: the same promises wherever the bytes are, sealed or not; only the fence holder's count; they expire."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from anyio import fail_after, sleep

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import (
    ArtifactsUnavailable,
    ArtifactTooLarge,
    DecryptionFailed,
    FenceLost,
    SettingsError,
    TaskNotFound,
)
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.artifacts.backends import BLOCK
from taskmill.store.scripts import Scripts
from taskmill.store.settings import StoreSettings
from tests.support.s3_server import BUCKET, s3_server
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

KEYS = {"plain": (), "sealed": (b"k" * 32,)}
SIZES = [0, 1, 64 * 1024, 64 * 1024 + 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture(params=["redis", "dir", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the places, as the setting names it."""
    if request.param == "dir":
        return f"dir:{tmp_path}/shared/artifacts"
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        return f"s3://{BUCKET}/{tmp_path.name}"
    return "redis"


@pytest.fixture(params=KEYS)
async def shop(request: pytest.FixtureRequest, stores: StoreFixture, place: str) -> StoreFixture:
    """A `StoreFixture` that keeps its artifacts in each of the places, plain and sealed."""
    return stores.with_settings(artifacts=place, seal_keys=KEYS[request.param])


def bytes_of(size: int) -> bytes:
    return hashlib.shake_128(b"artifact").digest(size)


async def stream(content: bytes, piece: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), piece):
        yield content[at : at + piece]


async def keep(stores: StoreFixture, task_id: str, content: bytes, *, fence: int = 1, piece: int = 100_000) -> Artifact:
    artifacts = stores.store.artifacts
    kind = {"name": "rows.csv", "mime_type": "text/csv"}
    written = await artifacts.write(stream(content, piece), task_id=task_id, principal=OWNER, **kind)
    await artifacts.attach(written, fence)
    return await artifacts.find(written.id, OWNER)


async def read(stores: StoreFixture, artifact: Artifact, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in stores.store.artifacts.read(artifact, start, stop)])


async def has_bytes(stores: StoreFixture, artifact: Artifact) -> bool:
    try:
        return len(await read(stores, artifact)) == artifact.size
    except ArtifactsUnavailable:
        return False


@pytest.mark.parametrize("size", SIZES)
async def test_an_artifact_is_read_as_it_was_written(shop: StoreFixture, size: int) -> None:
    claimed, content = await shop.start(), bytes_of(size)

    artifact = await keep(shop, claimed.id, content)

    outside = {"redis": "redis", "dir": "directory", "s3": "bucket"}[shop.settings.artifacts.partition(":")[0]]
    assert artifact == Artifact(
        id=artifact.id,
        task_id=claimed.id,
        principal=OWNER,
        name="rows.csv",
        mime_type="text/csv",
        size=size,
        digest=hashlib.sha256(content).hexdigest(),
        place=outside if size > 64 * 1024 else "redis",
        sealed=bool(shop.settings.seal_keys),
    )
    assert artifact.uri == f"taskmill://artifact/{artifact.id}"
    assert await read(shop, artifact) == content


@pytest.mark.parametrize("piece", [1000, BLOCK, 3 * BLOCK])
async def test_the_pieces_a_tool_gives_leave_no_trace(shop: StoreFixture, piece: int) -> None:
    claimed, content = await shop.start(), bytes_of(2 * BLOCK + 5)
    assert await read(shop, await keep(shop, claimed.id, content, piece=piece)) == content


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (5, 5), (BLOCK - 1, BLOCK + 1), (BLOCK, 2 * BLOCK), (10, 3 * BLOCK), (3 * BLOCK + 16, None), (1, 10**9)],
)
async def test_any_range_can_be_read(shop: StoreFixture, start: int, stop: int | None) -> None:
    content = bytes_of(3 * BLOCK + 17)
    artifact = await keep(shop, (await shop.start()).id, content)

    assert await read(shop, artifact, start, stop) == content[start:stop]


async def test_bytes_at_rest_are_as_the_keys_say(shop: StoreFixture, s3: dict[str, str]) -> None:
    secret = b"the secret word is swordfish " * 10_000
    artifact = await keep(shop, (await shop.start()).id, secret)
    unaware = shop.with_settings(seal_keys=())
    raw = await unaware.store.artifacts._backend_of(artifact).read(artifact.id, 0, artifact.size).__anext__()

    assert (b"swordfish" in raw) is not artifact.sealed
    if artifact.sealed:
        with pytest.raises(DecryptionFailed):
            await read(shop.with_settings(seal_keys=(b"o" * 32,)), artifact)
        assert await read(shop.with_settings(seal_keys=(b"n" * 32, b"k" * 32)), artifact) == secret


async def test_no_other_principal_finds_it(shop: StoreFixture) -> None:
    """I13; no one can tell an unknown artifact from another principal's."""
    artifact = await keep(shop, (await shop.start()).id, b"mine")

    with pytest.raises(TaskNotFound) as foreign:
        await shop.store.artifacts.find(artifact.id, STRANGER)
    with pytest.raises(TaskNotFound) as unknown:
        await shop.store.artifacts.find("nothing", OWNER)
    assert str(foreign.value) == str(unknown.value)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_late_workers_artifact_never_counts(shop: StoreFixture, size: int) -> None:
    late = await shop.start()
    written = await shop.store.artifacts.write(
        stream(bytes_of(size)), task_id=late.id, principal=OWNER, name="late", mime_type="text/plain"
    )
    await shop.lapse(late.id)
    await shop.take(late.id, shop.bob)

    with pytest.raises(FenceLost):
        await shop.store.artifacts.attach(written, late.fence)

    with pytest.raises(TaskNotFound):
        await shop.store.artifacts.find(written.id, OWNER)
    assert not await has_bytes(shop, written)
    assert await shop.redis.zcard(shop.keys.outside) == 0


async def test_after_the_end_nothing_is_attached(shop: StoreFixture) -> None:
    claimed = await shop.start()
    await shop.finish(claimed)

    with pytest.raises(FenceLost):
        await keep(shop, claimed.id, b"late")


async def test_attaching_again_after_a_lost_reply_changes_nothing(shop: StoreFixture) -> None:
    claimed = await shop.start()
    artifact = await keep(shop, claimed.id, bytes_of(100_000))
    async with shop.nothing_changes():
        await shop.store.artifacts.attach(artifact, claimed.fence)
    assert await has_bytes(shop, artifact)


@pytest.mark.parametrize("ending", ["finish", "cancel"])
async def test_artifacts_go_when_their_task_goes(shop: StoreFixture, ending: str) -> None:
    claimed = await shop.start(retention=timedelta(minutes=10))
    small, large = [await keep(shop, claimed.id, bytes_of(size)) for size in (10, 200_000)]
    assert await shop.store.artifacts.sweep() == 0
    if ending == "finish":
        await shop.finish(claimed)
    else:
        await shop.store.cancel(claimed.id, OWNER)
    assert await has_bytes(shop, small)
    assert await has_bytes(shop, large)

    for key in (shop.keys.artifact(large.id), shop.keys.blob(large.id)):
        await shop.redis.pexpire(key, 1)
    if await shop.redis.zcard(shop.keys.outside):
        assert await shop.redis.zadd(shop.keys.outside, {large.id: 1}, xx=True, ch=True) == 1
        assert await shop.store.artifacts.sweep() == 1
    with fail_after(30):
        while await has_bytes(shop, large) or await shop.redis.exists(shop.keys.artifact(large.id)):
            await sleep(0.01)
    with pytest.raises(TaskNotFound):
        await shop.store.artifacts.find(large.id, OWNER)
    assert await has_bytes(shop, small)
    assert await shop.redis.zcard(shop.keys.outside) == 0


async def test_bytes_of_a_worker_that_died_before_attaching_are_swept_within_a_day(shop: StoreFixture) -> None:
    claimed = await shop.start()
    orphan = await shop.store.artifacts.write(
        stream(bytes_of(200_000)), task_id=claimed.id, principal=OWNER, name="x", mime_type="text/plain"
    )
    in_a_day = await shop.now_ms() + 24 * 3600 * 1000
    if orphan.place == "redis":
        assert abs(await shop.redis.pttl(shop.keys.blob(orphan.id)) - 24 * 3600 * 1000) < 60_000
        await shop.redis.delete(shop.keys.blob(orphan.id))
        return
    ((_, due),) = (await shop.found()).members(shop.keys.outside).items()
    assert abs(due - in_a_day) < 60_000

    await shop.redis.zadd(shop.keys.outside, {orphan.id: 1})
    with pytest.raises(ArtifactsUnavailable, match="longer than a day"):
        await shop.store.artifacts.attach(orphan, claimed.fence)
    assert not await has_bytes(shop, orphan)


async def test_a_sweep_is_bounded(stores: StoreFixture, tmp_path: Path) -> None:
    shop = stores.with_settings(artifacts=f"dir:{tmp_path}")
    claimed = await shop.start()
    for _ in range(5):
        artifact = await keep(shop, claimed.id, bytes_of(70_000))
        await shop.redis.zadd(shop.keys.outside, {artifact.id: 1})

    assert [await shop.store.artifacts.sweep(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    await shop.redis.flushall()  # a task that is open and whose artifacts went: only a test does that


async def test_a_stream_that_fails_leaves_nothing(shop: StoreFixture) -> None:
    claimed = await shop.start()

    async def failing() -> AsyncIterator[bytes]:
        yield bytes_of(200_000)
        raise RuntimeError("the disk of the tool is gone")

    with pytest.raises(RuntimeError, match="disk of the tool"):
        await shop.store.artifacts.write(failing(), task_id=claimed.id, principal=OWNER, name="x", mime_type="x/y")

    found = await shop.found()
    assert not [key for key in found.values if key.startswith((shop.keys.blob(""), shop.keys.artifact("")))]
    assert found.members(shop.keys.outside) == {}


@pytest.mark.parametrize("piece", [1000, 500_000])
async def test_one_byte_too_many_is_refused_and_the_setting_named(shop: StoreFixture, piece: int) -> None:
    limit = 300_000
    shop = shop.with_settings(max_artifact=limit, max_artifact_in_redis=limit)
    claimed = await shop.start()
    assert (await keep(shop, claimed.id, bytes_of(limit), piece=piece)).size == limit

    with pytest.raises(ArtifactTooLarge, match=r"more than 300,000 bytes.*TASKMILL_MAX_ARTIFACT"):
        await keep(shop, claimed.id, bytes_of(limit + 1), piece=piece)


@pytest.mark.parametrize("left", [0, 1000, BLOCK - 1])
async def test_a_redis_that_came_back_without_its_last_writes_is_noticed(stores: StoreFixture, left: int) -> None:
    """A hole would be read as zeros, and the link would not show it."""
    claimed = await stores.start()

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes_of(2 * BLOCK)
        (key,) = [name async for name in stores.redis.scan_iter(match=stores.keys.blob("*"))]
        await stores.redis.set(key, (await stores.redis.get(key))[:left], keepttl=True)
        yield bytes_of(BLOCK)

    with pytest.raises(ArtifactsUnavailable, match="Redis has lost a part of the artifact"):
        await stores.store.artifacts.write(pieces(), task_id=claimed.id, principal=OWNER, name="x", mime_type="x/y")
    assert [name async for name in stores.redis.scan_iter(match=stores.keys.blob("*"))] == []


async def test_redis_takes_less_and_names_what_takes_more(stores: StoreFixture) -> None:
    stores = stores.with_settings(max_artifact_in_redis=1000)
    claimed = await stores.start()

    with pytest.raises(ArtifactTooLarge, match="TASKMILL_ARTIFACTS=dir:/path or s3://bucket takes larger ones"):
        await keep(stores, claimed.id, bytes_of(1001))


async def test_a_directory_that_cannot_be_written_is_named(stores: StoreFixture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shop = stores.with_settings(artifacts=f"dir:{tmp_path}/file/artifacts")
    claimed = await shop.start()

    with pytest.raises(ArtifactsUnavailable, match=f"{tmp_path}/file/artifacts cannot be used"):
        await keep(shop, claimed.id, bytes_of(100_000))


async def test_files_of_a_directory_are_this_users_only(stores: StoreFixture, tmp_path: Path) -> None:
    shop = stores.with_settings(artifacts=f"dir:{tmp_path}/a")
    await keep(shop, (await shop.start()).id, bytes_of(100_000))

    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (os.stat(file).st_mode & 0o777, os.stat(tmp_path / "a").st_mode & 0o077) == (0o600, 0)


async def test_a_bucket_that_refuses_is_named(
    stores: StoreFixture, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    shop = stores.with_settings(artifacts="s3://no-such-bucket")
    claimed = await shop.start()

    with pytest.raises(ArtifactsUnavailable, match="s3://no-such-bucket cannot be used"):
        await keep(shop, claimed.id, bytes_of(100_000))


async def test_a_process_with_another_backend_reports_it(stores: StoreFixture, tmp_path: Path) -> None:
    shop = stores.with_settings(artifacts=f"dir:{tmp_path}")
    artifact = await keep(shop, (await shop.start()).id, bytes_of(100_000))

    with pytest.raises(ArtifactsUnavailable, match="in the directory, and TASKMILL_ARTIFACTS=redis here"):
        await read(stores, artifact)


@pytest.mark.parametrize("wrong", ["disk", "dir:", "s3://", "s3://bucket?x=1", "gs://bucket"])
def test_a_backend_that_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="artifacts"):
        StoreSettings(artifacts=wrong)


def test_a_bucket_without_its_library_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, stores: StoreFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"pip install 'taskmill\[s3\]'"):
        ArtifactStore(stores.redis, StoreSettings(artifacts="s3://bucket"), Scripts(stores.keys))
