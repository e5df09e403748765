"""`taskmill doctor`: checks everything that a deployment needs, and says how to correct what is wrong.

It changes nothing, but it starts the embedded Redis if that is the one in use: only a running one can be checked. In a
directory or bucket of artifacts it writes one and deletes it.
"""

import asyncio
import json
import platform
import re
import resource
import sys
import sysconfig
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskmill.adapters.remote.target import is_remote, shown
from taskmill.cli.doctor.authentication import authentication_findings
from taskmill.cli.doctor.model import model_findings
from taskmill.cli.doctor.sealing import sealing_findings, unsealed_finding
from taskmill.cli.doctor.security import audit_findings, limits_findings, redis_access_findings
from taskmill.cli.doctor.tools import pause_findings, tool_findings, worker_findings
from taskmill.cli.doctor.webhooks import undelivered_findings, webhook_findings
from taskmill.cli.loading import load_server
from taskmill.cli.settings import redis_for, settings_for
from taskmill.cli.source import source_of_file
from taskmill.cli.terminal.escaping import printable
from taskmill.engine.errors import ArtifactsUnavailable, NoRedisServer, RedisUnfit, SettingsError, TaskmillError
from taskmill.engine.policy import TaskConfig
from taskmill.engine.principal import new_task_id
from taskmill.server.tool_host import ToolHost
from taskmill.server.tools.author_function import AuthorWarning
from taskmill.store.artifacts.backends import BlobBackend, outside_backend
from taskmill.store.connection.checks import Finding, inspect
from taskmill.store.connection.client import connect, redacted_url, store_errors
from taskmill.store.connection.cluster import cluster_target_of
from taskmill.store.connection.layout import inspect_layout
from taskmill.store.embedded.binary import find_server
from taskmill.store.formats.queue_names import app_of_source
from taskmill.store.scripts import Scripts
from taskmill.store.setting_names import given_by_flag, setting_name
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.shards import DEFAULT_SHARD
from taskmill.store.tasks.pauses import PauseStore
from taskmill.store.tasks.stats import count_unsealed, live_workers
from taskmill.store.webhooks.deliveries import MOST_LISTED, DeliveryStore
from taskmill.workers.settings import WorkerSettings

__all__ = ["run_checks"]

_LIBRARIES = ("taskmill", "mcp", "arq", "redis")
_STYLES = {"ok": "green", "warning": "yellow", "unfit": "bold red"}
_FRAME = re.compile(r'  File "(.+)", line (\d+)')
_FURTHER = "For further information visit"
"""How pydantic ends each of its errors, with an address."""
_PACKAGE = Path(__file__).parents[2]
_PROBE = b"taskmill doctor was here"
_MIB = 1024 * 1024
_TO_LOAD = {False: "correct the file", True: "start that server, or correct TARGET"}
"""What to do where it cannot be loaded: an author's file, and another server."""
_ARTIFACTS_REMEDY = "correct TASKMILL_ARTIFACTS, or what it names; it must be the same on every server and worker"


def run_checks(file: str | None, redis_url: str | None, *, as_json: bool) -> int:
    """Print every finding; the exit code is 1 if something is unfit."""
    given_by_flag({"redis_url": redis_url})
    findings = list(_findings(file, redis_url))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_table(findings)
    return 1 if any(finding.level == "unfit" for finding in findings) else 0


def _findings(file: str | None, redis_url: str | None) -> Iterator[Finding]:
    yield _versions()
    server: ToolHost | None = None
    if file is not None:
        try:
            with warnings.catch_warnings(record=True) as hints:
                warnings.simplefilter("always", AuthorWarning)
                server = load_server(file)
        except TaskmillError as exc:
            yield _failed("file", exc, _TO_LOAD[is_remote(file)])
        else:
            yield from _hint_findings(hints)
            yield from _file_findings(server, file)
            yield from authentication_findings(server)
    yield from limits_findings(server)
    yield from model_findings(server)
    try:
        settings = _settings(server, redis_url)
    except TaskmillError as exc:
        yield _failed("settings", exc, "correct the variable it names")
        return
    policies = {} if server is None else server.policies()
    yield from _settings_findings(settings, policies)
    workers: list[list[dict[str, Any]]] = []
    if settings.redis_url is None and server is not None and not server.needs_store:
        yield Finding("redis", "ok", "not needed: the server has no task tools, and none is configured")
        return
    if settings.redis_url is None:
        yield _server_program()
    for shard in (DEFAULT_SHARD, *settings.shards):
        yield from _redis_findings(
            settings.at_shard(shard), "redis" if shard == DEFAULT_SHARD else f"shard {shard}", workers
        )
    yield asyncio.run(_artifact_finding(settings))
    yield from audit_findings(settings)
    if workers:
        workers_ = [one for some in workers for one in some]
        yield from worker_findings(
            workers_, policies, _apps(file, server, settings), is_embedded=settings.redis_url is None
        )


def _hint_findings(hints: Sequence[warnings.WarningMessage]) -> Iterator[Finding]:
    """What the author of the file was warned of while it was loaded."""
    for hint in hints:
        if issubclass(hint.category, AuthorWarning):
            where = f"{Path(hint.filename).name}, line {hint.lineno}: "
            yield Finding("file", "warning", where + str(hint.message), hint.category.remedy)


def _versions() -> Finding:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return Finding("versions", "ok", f"Python {platform.python_version()}, {libraries}")


def _settings_findings(settings: WorkerSettings, policies: Mapping[str, TaskConfig]) -> Iterator[Finding]:
    yield Finding("settings", "ok", f"lease {settings.lease:g} s, prefix {settings.prefix}, data in {settings.home}")
    yield from sealing_findings(settings)
    yield from webhook_findings(settings, policies)


def _file_findings(server: ToolHost, target: str) -> Iterator[Finding]:
    limit = _tool_timeout(server)
    policies = {name: policy.timed_by(limit) for name, policy in server.policies().items()}
    file = shown(target)
    if not policies:
        yield Finding("file", "warning", f"{file} has no task tools", "@mcp.tool(task=True) makes a tool a task")
        return
    answers = f"{file} answers, and" if is_remote(target) else file
    yield Finding("file", "ok", f"{answers} has {len(policies)} task tool{'s' if len(policies) > 1 else ''}")
    has_auth = server.has_auth
    yield from tool_findings(policies, has_auth=has_auth, resident=_resident())


def _tool_timeout(server: ToolHost) -> float:
    """Seconds; 0 = none, or it cannot be read, which is a finding of its own."""
    try:
        return _settings(server, None).tool_timeout
    except TaskmillError:
        return 0.0


def _resident() -> int:
    """Bytes: the most memory that this process has used, with the file's modules."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _settings(server: ToolHost | None, redis_url: str | None) -> WorkerSettings:
    if server is None:
        return read_settings(WorkerSettings, redis_url=redis_url)
    return settings_for(WorkerSettings, server, redis_url=redis_url)


def _apps(file: str | None, server: ToolHost | None, settings: WorkerSettings) -> set[str] | None:
    """The apps of a file's workers: of deployed ones, and of those under development; None without a file."""
    if file is None or server is None:
        return None
    return {settings.app or "", *(app_of_source(app, source_of_file(file)) for app in {"", settings.app or ""})}


def _server_program() -> Finding:
    try:
        return Finding("redis-server", "ok", str(find_server()))
    except NoRedisServer as exc:
        return _failed("redis-server", exc, "")


def _redis_findings(settings: StoreSettings, name: str, workers: list[list[dict[str, Any]]]) -> Iterator[Finding]:
    """The findings of one Redis; its workers are added to `workers`."""
    with ExitStack() as stack:
        try:
            ready = stack.enter_context(redis_for(settings))
            findings, workers_ = asyncio.run(_inspect(ready))
        except TaskmillError as exc:
            variable = setting_name("redis_url" if name == "redis" else "shards")
            yield _failed(name, exc, f"start it, or correct {variable}")
            return
        workers.append(workers_)
        kind = "embedded" if settings.redis_url is None else redacted_url(settings.redis_url)
        yield Finding(name, "ok", f"answers ({kind})")
        yield from redis_access_findings(settings.redis_url, name)
        yield from (Finding(f"{name} {one.name}", one.level, one.detail, one.remedy) for one in findings)


async def _inspect(settings: StoreSettings) -> tuple[list[Finding], list[dict[str, Any]]]:
    """The findings of a Redis, and the live workers that are registered there."""
    redis = connect(settings)
    try:
        with store_errors(redacted_url(settings.redis_url or "")):
            keys = settings.keys()
            findings = [*await inspect(redis, in_cluster=keys.in_cluster), await inspect_layout(redis, keys)]
            if cluster := cluster_target_of(settings.redis_url or "", settings.prefix):
                findings += await cluster.findings()
            findings += unsealed_finding(settings, *await count_unsealed(redis, keys))
            scripts = Scripts(keys)
            findings += pause_findings(await PauseStore(redis, scripts, keys).read())
            undelivered = await DeliveryStore(redis, settings, scripts, keys).undelivered(None, limit=MOST_LISTED)
            findings += undelivered_findings(undelivered, int(time.time() * 1000))
        return findings, await live_workers(redis, keys)
    finally:
        await redis.aclose()


async def _artifact_finding(settings: StoreSettings) -> Finding:
    """The finding of the backend of large artifacts. A directory or bucket is tried, and nothing is left in it."""
    try:
        backend = outside_backend(settings)
        if backend is None:
            limit = settings.max_artifact_in_redis / _MIB
            return Finding("artifacts", "ok", f"in Redis, up to {limit:.3g} MiB each")
        started = time.monotonic()
        await _try_out(backend)
    except (ArtifactsUnavailable, SettingsError) as exc:
        return Finding("artifacts", "unfit", str(exc), _ARTIFACTS_REMEDY)
    took = (time.monotonic() - started) * 1000
    return Finding("artifacts", "ok", f"{settings.artifacts}: one was written, read and deleted in {took:.0f} ms")


async def _try_out(backend: BlobBackend) -> None:
    """Write, read and delete a few bytes.

    Raises:
        ArtifactsUnavailable: one of these fails.
    """
    blob_id = new_task_id()

    async def blocks() -> AsyncIterator[bytes]:
        yield _PROBE

    await backend.write(blob_id, blocks())
    found = b"".join([chunk async for chunk in backend.read(blob_id, 0, len(_PROBE))])
    await backend.delete(blob_id)
    if found != _PROBE:
        raise ArtifactsUnavailable("What is read there is not what was written.")


def _failed(name: str, exc: TaskmillError, remedy: str) -> Finding:
    trace = str(exc.facts.get("trace", ""))
    detail = _words_of(trace) if trace else str(exc)
    return Finding(name, "unfit", detail, "" if isinstance(exc, RedisUnfit) else remedy)


def _words_of(trace: str) -> str:
    """The author's line of a traceback, and all that the exception says, on one line."""
    last = trace.rpartition("Traceback (most recent call last):")[2].strip("\n").splitlines()
    frames = [(at, found) for at, line in enumerate(last) if (found := _FRAME.match(line))]
    after = frames[-1][0] + 1 if frames else 0
    start = next((at for at in range(after, len(last)) if not last[at].startswith(" ")), len(last) - 1)
    words = [line.strip() for line in last[start:] if line.strip() and not line.strip().startswith(_FURTHER)]
    where = [f"{Path(found[1]).name}, line {found[2]}: " for _, found in frames if _is_author_file(found[1])]
    return (where[-1] if where else "") + "; ".join(words)


def _is_author_file(path: str) -> bool:
    if path.startswith(("<", sysconfig.get_path("stdlib"))) or "site-packages" in path:
        return False
    return Path(path).parent.parent.parent != _PACKAGE and Path(path).parent.parent != _PACKAGE


def _print_table(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("check", "", "found", "to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        cells = (finding.name, finding.level, finding.detail, finding.remedy)
        style = _STYLES[finding.level]
        table.add_row(*(Text(printable(cell, lines=True), style if at == 1 else "") for at, cell in enumerate(cells)))
    Console(highlight=False).print(table)
