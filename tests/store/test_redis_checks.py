"""What Taskmill checks in a Redis before it keeps tasks in it."""

import pytest
from anyio import fail_after, sleep
from redis._parsers.helpers import parse_info
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ConnectionError

from taskmill.engine.errors import RedisUnfit
from taskmill.store.connection.checks import Finding, inspect, judge, raise_unfit
from tests.support.redis_server import PrivateRedis, SentinelServer, free_port

HEALTHY = """\
# Server
redis_version:7.0.15
redis_mode:standalone
# Memory
maxmemory_policy:noeviction
# Persistence
loading:0
aof_enabled:1
aof_last_write_status:ok
# Replication
role:master
# Cluster
cluster_enabled:0
"""


def judged(info: str) -> dict[str, Finding]:
    parsed = parse_info(info)  # type: ignore[no-untyped-call]  # redis-py types only its outside
    return {finding.name: finding for finding in judge(parsed)}


async def inspected(**settings: str) -> dict[str, Finding]:
    with PrivateRedis(**settings) as server:
        async with Redis.from_url(server.url) as client:
            return {finding.name: finding for finding in await inspect(client)}


async def test_a_redis_as_it_should_be_has_nothing_but_ok_findings() -> None:
    findings = await inspected(appendonly="yes")

    assert {name: finding.level for name, finding in findings.items()} == {
        "version": "ok",
        "mode": "ok",
        "role": "ok",
        "eviction": "ok",
        "persistence": "ok",
    }
    raise_unfit(list(findings.values()))


async def test_an_evicting_redis_is_unfit_and_the_setting_is_named() -> None:
    findings = await inspected(maxmemory_policy="allkeys-lru")

    assert findings["eviction"].level == "unfit"
    with pytest.raises(RedisUnfit, match="CONFIG SET maxmemory-policy noeviction") as refused:
        raise_unfit(list(findings.values()))
    assert refused.value.facts["findings"] == [findings["eviction"]]


async def test_a_volatile_policy_is_unfit_too() -> None:
    """Every key of a task has a TTL, so volatile policies evict them like any other."""
    assert (await inspected(maxmemory_policy="volatile-ttl"))["eviction"].level == "unfit"


async def test_a_redis_without_append_only_file_is_warned_of_and_accepted() -> None:
    findings = await inspected(appendonly="no")

    assert findings["persistence"].level == "warning"
    assert "appendonly yes" in findings["persistence"].remedy
    raise_unfit(list(findings.values()))


async def test_a_node_of_a_cluster_is_unfit_by_an_address_that_is_no_clusters() -> None:
    findings = await inspected(cluster_enabled="yes")

    assert findings["mode"].level == "unfit"
    with pytest.raises(RedisUnfit, match=r"To do: redis\+cluster://host:port"):
        raise_unfit(list(findings.values()))


async def test_a_replica_is_unfit_and_its_primary_is_named() -> None:
    findings = await inspected(replicaof="127.0.0.1 1")

    assert findings["role"].level == "unfit"
    assert "127.0.0.1:1" in findings["role"].remedy


async def test_all_that_is_unfit_is_reported_at_once() -> None:
    findings = await inspected(replicaof="127.0.0.1 1", maxmemory_policy="allkeys-random")

    with pytest.raises(RedisUnfit) as refused:
        raise_unfit(list(findings.values()))
    assert [finding.name for finding in refused.value.facts["findings"]] == ["role", "eviction"]


async def test_a_user_who_may_not_ask_for_info_gets_a_warning_instead_of_a_failure() -> None:
    with PrivateRedis() as server:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-info")
            findings = await inspect(client)

    assert [(finding.name, finding.level) for finding in findings] == [("access", "warning")]
    assert "+info" in findings[0].remedy


async def test_an_unreachable_redis_stays_a_failure_to_connect() -> None:
    with pytest.raises(ConnectionError):
        await inspect(Redis.from_url("unix:///nowhere/redis.sock?db=0"))


async def test_a_redis_that_loads_its_data_is_one_to_wait_for() -> None:
    """INFO is answered meanwhile, so without this a start would go on and fail at its first command."""
    with PrivateRedis(appendonly="yes", key_load_delay="100") as server:
        # No transaction: Redis looks at its clients between the commands it loads, once in a thousand.
        async with Redis.from_url(server.url) as client, client.pipeline(transaction=False) as filling:
            for number in range(20_000):
                filling.set(f"key-{number}", number)
            await filling.execute()
        server.kill()
        server.launch()
        with pytest.raises(BusyLoadingError):
            await inspect_once_it_listens(server.url)


async def inspect_once_it_listens(url: str) -> None:
    with fail_after(30):
        async with Redis.from_url(url) as client:
            while True:
                try:
                    await inspect(client)
                    return
                except BusyLoadingError:
                    raise
                except ConnectionError:
                    await sleep(0.01)


def test_redis_6_0_is_too_old() -> None:
    version = judged(HEALTHY.replace("7.0.15", "6.0.16"))["version"]

    assert (version.level, version.detail) == ("unfit", "Redis 6.0.16 is too old")
    assert "6.2" in version.remedy


@pytest.mark.parametrize("version", ["6.2.0", "6.2", "7.2.4", "10.0.1"])
def test_redis_6_2_and_newer_is_fit(version: str) -> None:
    assert judged(HEALTHY.replace("7.0.15", version))["version"] == Finding("version", "ok", f"Redis {version}")


def test_valkey_is_known_by_its_own_version() -> None:
    valkey = HEALTHY.replace("7.0.15", "7.2.4\nserver_name:valkey\nvalkey_version:8.0.1")

    assert judged(valkey)["version"] == Finding("version", "ok", "Valkey 8.0.1")


def test_a_sentinel_is_not_a_redis() -> None:
    assert judged(HEALTHY.replace("standalone", "sentinel"))["mode"].level == "unfit"


@pytest.mark.parametrize(("mode", "enabled"), [("sentinel", 0), ("cluster", 1)])
def test_valkeys_own_word_for_the_mode_is_understood(mode: str, enabled: int) -> None:
    valkey = HEALTHY.replace("redis_mode:standalone", f"server_mode:{mode}").replace("enabled:0", f"enabled:{enabled}")

    assert judged(valkey)["mode"].level == "unfit"


async def test_a_real_sentinel_is_not_taken_for_a_redis() -> None:
    with PrivateRedis(port=str(free_port())) as primary:
        replica = PrivateRedis(port=str(free_port()), replicaof=f"127.0.0.1 {primary.port}")
        with replica, SentinelServer(primary.port) as sentinel:
            async with Redis(port=sentinel.port) as client:
                mode = {finding.name: finding for finding in await inspect(client)}["mode"]

    assert (mode.level, mode.detail) == ("unfit", "this is a Sentinel, not a Redis")
    assert "redis+sentinel://" in mode.remedy


def test_what_a_hosted_redis_does_not_say_is_a_warning() -> None:
    findings = judged("redis_version:7.2.4\nrole:master\n")

    assert {name: finding.level for name, finding in findings.items()} == {
        "version": "ok",
        "mode": "ok",
        "role": "ok",
        "eviction": "warning",
        "persistence": "warning",
    }


def test_an_append_only_file_that_cannot_be_written_is_warned_of() -> None:
    assert judged(HEALTHY.replace("status:ok", "status:err"))["persistence"].level == "warning"
