"""The address of a Redis cluster, and where it puts the keys of a deployment."""

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import RedisUnfit, SettingsError
from taskmill.store.connection.client import open_redis
from taskmill.store.connection.cluster import cluster_target_of
from taskmill.store.formats.cluster_address import SLOTS, slot_of, tag_of
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.workers.arq_worker import stock_settings
from taskmill.workers.settings import WorkerSettings
from tests.support.redis_server import PrivateRedis, free_port


async def test_a_redis_in_no_cluster_is_refused_with_the_address_to_write() -> None:
    words = r"is in no cluster. To do: write redis:// in place of redis\+cluster://"
    with PrivateRedis(port=str(free_port())) as alone, pytest.raises(RedisUnfit, match=words):
        async with open_redis(StoreSettings(redis_url=f"redis+cluster://127.0.0.1:{alone.port}")):
            pass


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://", "a node without a host"),
        ("redis+cluster://a:x", "a port that is no number"),
        ("redis+cluster://a:1/3", "database 0 alone"),
        ("redis+cluster://a:1?part=4of3", "1of3, 2of3 or 3of3"),
        ("redis+cluster://a:1?parts=3", "part=2of3 and ssl_check_hostname are all"),
    ],
)
def test_an_address_of_a_cluster_that_cannot_be_read_is_refused_with_what_to_write(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings(StoreSettings, redis_url=url)
    with pytest.raises(SettingsError, match=words):
        read_settings(StoreSettings, redis_url="redis://a", shards={"reports": url})


def test_an_address_of_a_cluster_is_read_whole() -> None:
    target = cluster_target_of("rediss+cluster://us%40er:p%2Fw@one,two:1,[::1]:2?part=2of3", "taskmill")
    assert target is not None
    assert target.nodes == [("one", 6379), ("two", 1), ("::1", 2)]
    login = {"username": "us@er", "password": "p/w", "ssl_check_hostname": True}
    assert (target.address.login, target.address.is_tls) == (login, True)
    assert target.slot == slot_of(tag_of("taskmill", (2, 3)))


def test_the_parts_of_a_cluster_are_spread_over_its_slots() -> None:
    for total in (1, 2, 3, 7, 100):
        slots = [slot_of(tag_of("taskmill", (number, total))) for number in range(1, total + 1)]
        assert [slot * total // SLOTS for slot in slots] == list(range(total))


def test_the_tags_of_parts_never_change() -> None:
    """tasks are found by them."""
    known = ["taskmill", "taskmill/1of3/2", "taskmill/2of3/10", "taskmill/3of3/23"]
    assert [tag_of("taskmill", part) for part in (None, (1, 3), (2, 3), (3, 3))] == known


def test_a_stock_worker_is_refused_on_a_cluster() -> None:
    settings = WorkerSettings(redis_url="redis+cluster://a:1")
    with pytest.raises(SettingsError, match="start `taskmill worker`"):
        stock_settings(lambda: None, settings)  # type: ignore[arg-type,return-value]  # it is refused before


def test_the_slot_of_a_tag_is_the_one_that_redis_computes() -> None:
    assert slot_of("123456789") == 0x31C3 % SLOTS


@pytest.mark.parametrize("url", ["redis://a:1", "unix:///a", "redis+sentinel://a:1/name"])
def test_outside_of_clusters_arqs_keys_are_those_of_arq(url: str) -> None:
    keys = StoreSettings(redis_url=url).keys()
    assert (keys.job("x"), keys.in_progress("x")) == ("arq:job:x", "arq:in-progress:x")


async def test_a_password_is_used_for_every_node() -> None:
    with PrivateRedis(port=str(free_port())) as alone:
        async with Redis.from_url(alone.url) as redis:
            await redis.config_set("requirepass", "hush")
        target = cluster_target_of(f"redis+cluster://:hush@127.0.0.1:{alone.port}", "taskmill")
        assert target is not None
        with pytest.raises(RedisUnfit, match="in no cluster"):
            await target.ranges()
        with pytest.raises(RedisUnfit, match="in no cluster"):
            target.primary_blocking()


def test_two_shards_on_the_same_part_of_a_cluster_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"\?part=1of2 and \?part=2of2"):
        read_settings(StoreSettings, redis_url="redis+cluster://a,b", shards={"reports": "redis+cluster://b"})
