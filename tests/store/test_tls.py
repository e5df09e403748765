"""Redis behind TLS: whose certificate is accepted, and a cluster that is followed over TLS alone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from redis.exceptions import ConnectionError

from taskmill.engine.errors import OperatorError, RedisUnfit
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.connection.client import connect, connect_blocking, open_redis, store_errors
from taskmill.store.formats.cluster_address import slot_of
from taskmill.store.pubsub.wakeup import QueueWakeup
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.arq_job import arq_redis_settings
from tests.support.invariants import broken_promises
from tests.support.redis_cluster import ClusterNodes, running_cluster
from tests.support.redis_server import PrivateRedis, free_port
from tests.support.self_signed import write_certificate
from tests.support.store_fixture import StoreFixture, own_servers
from tests.support.tls_front import tls_in_front

FRONT = "127.0.0.2"
"""Where TLS is; the nodes of the cluster have the same ports of 127.0.0.1 for themselves."""
SLOT = slot_of("taskmill")


sound = own_servers


@contextmanager
def redis_behind_tls(certificate: tuple[Path, Path]) -> Iterator[int]:
    """The port on which it is `localhost`, and also 127.0.0.1, which its certificate does not name."""
    port = free_port()
    with (
        PrivateRedis(appendonly="yes") as server,
        tls_in_front("localhost", {port: f"{server.directory}/redis.sock"}, certificate),
    ):
        yield port


async def _answers(url: str) -> bool:
    settings = StoreSettings(redis_url=url, command_timeout=5)
    client = connect_blocking(settings)
    with store_errors(url):
        pings = [await asyncio.to_thread(client.ping)]
    client.close()
    for kind in ({}, {"blocking": True}):
        redis = connect(settings, **kind)
        try:
            with store_errors(url):
                pings.append(await redis.ping())
        finally:
            await redis.aclose()
    return pings == [True, True, True]


async def test_a_certificate_must_be_of_a_known_authority_and_name_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path)
    with redis_behind_tls(certificate) as port:
        with pytest.raises(RedisUnfit, match=r"not accepted: self.signed certificate.*SSL_CERT_FILE"):
            await _answers(f"rediss://localhost:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert await _answers(f"rediss://localhost:{port}/0")
        with pytest.raises(RedisUnfit, match=r"not valid for '127\.0\.0\.1'.*\?ssl_check_hostname=false"):
            await _answers(f"rediss://127.0.0.1:{port}/0")
        assert await _answers(f"rediss://127.0.0.1:{port}/0?ssl_check_hostname=false")
        with pytest.raises(OperatorError, match="cannot be reached"):
            await _answers(f"redis://localhost:{port}/0")


async def test_arqs_own_connections_check_the_host_as_ours_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with redis_behind_tls(certificate) as port:
        for url, is_good in [
            (f"rediss://localhost:{port}/0", True),
            (f"rediss://127.0.0.1:{port}/0", False),
            (f"rediss://127.0.0.1:{port}/0?ssl_check_hostname=0", True),
        ]:
            given: Any = arq_redis_settings(StoreSettings(redis_url=url))
            given.conn_retries = 0
            if is_good:
                await (await create_pool(given)).aclose()
                continue
            with pytest.raises(ConnectionError):
                await create_pool(given)
    for scheme, checks in [("redis", False), ("rediss", True)]:
        assert arq_redis_settings(StoreSettings(redis_url=f"{scheme}+sentinel://a/b")).ssl_check_hostname is checks


@pytest.fixture
def nodes() -> Iterator[ClusterNodes]:
    """They tell clients an address at which there is nothing but TLS."""
    told = {"bind": "127.0.0.1", "cluster_announce_hostname": FRONT, "cluster_preferred_endpoint_type": "hostname"}
    with running_cluster(**told) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_cluster_is_followed_over_tls_through_a_move_a_handover_and_a_crash(
    nodes: ClusterNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, FRONT)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    sockets = {server.port: f"{server.directory}/redis.sock" for server in nodes.servers}
    url = "rediss+cluster://" + ",".join(f"{FRONT}:{port}" for port in sockets)
    settings = StoreSettings(redis_url=url, lease=60, command_timeout=5)
    with tls_in_front(FRONT, sockets, certificate):
        async with open_redis(settings) as redis:
            stores = StoreFixture(redis, settings)
            heartbeat = Heartbeat(settings, stores.ann, "ann")
            wakeup = QueueWakeup(settings, stores.keys, "default")
            for fault in (nodes.move, nodes.fail_over, nodes.kill_primary):
                held = await stores.start()
                await fault(SLOT)
                assert await asyncio.to_thread(heartbeat.renew, [(held.id, held.fence)], {}) == []
                assert await stores.finish(held) == "finished"
                await stores.create()
                assert await wakeup.wait(50)
            heartbeat.leave()
            await wakeup.close()
            assert broken_promises(await stores.found()) == []
