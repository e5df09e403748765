"""docker-compose.yml and the Dockerfile, held without Docker: the file against the published Compose schema, what the
promises ask of it, and every service's own command and health check run natively, with the container's addresses
replaced by ports of this machine.
"""

import importlib.resources
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.oldest_redis import oldest_redis
from tests.support.redis_server import free_port

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
"""Package -> its folder."""
STARTS_WITHIN = 60.0
STOPS_WITHIN = 15.0
PASSWORD = "0123456789abcdef"

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def flag(service: str, name: str) -> str:
    """The value that follows a flag in a service's command."""
    command: list[str] = SERVICES[service]["command"]
    return command[command.index(name) + 1]


def test_the_file_keeps_to_the_published_schema() -> None:
    vendored = importlib.resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    found = jsonschema.Draft202012Validator(schema).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in found] == []


def test_redis_logs_every_write_and_evicts_nothing() -> None:
    redis = SERVICES["redis"]
    assert (flag("redis", "--appendonly"), flag("redis", "--maxmemory-policy")) == ("yes", "noeviction")
    [volume] = redis["volumes"]
    name, target = volume.split(":")
    assert name in COMPOSE["volumes"], "a named volume: an anonymous one is lost when the container is made anew"
    assert target == "/data"


def test_server_and_worker_wait_for_a_healthy_redis_and_share_it() -> None:
    for service in ("server", "worker"):
        assert SERVICES[service]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert SERVICES[service]["environment"]["TASKMILL_REDIS_URL"].endswith("@redis:6379/0")
        assert "--redis-url" not in SERVICES[service]["command"], "all users of a machine see command lines"
        assert SERVICES[service]["command"][1] == SERVICES["server"]["command"][1]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(service: str) -> None:
    held = SERVICES[service]
    assert (held["read_only"], held["cap_drop"], held["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert {"mem_limit", "cpus", "pids_limit", "healthcheck", "tmpfs"} <= set(held)
    assert "${REDIS_PASSWORD:?" in json.dumps(held["environment"]), "without one, nothing starts"
    assert held.get("user", "taskmill") != "root"


def test_redis_is_reached_by_server_and_worker_only() -> None:
    assert SERVICES["redis"]["networks"] == ["data"]
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert "ports" not in SERVICES["redis"]
    # A rewrite of the append-only file may take as much memory again.
    assert (SERVICES["redis"]["mem_limit"], flag("redis", "--maxmemory")) == ("1g", "512mb")


def test_workers_scale() -> None:
    """`--scale worker=N` fails on a fixed container name, and on a published port."""
    assert {"container_name", "ports"} & set(SERVICES["worker"]) == set()


def test_a_stopping_worker_gets_longer_than_its_own_grace() -> None:
    period = re.fullmatch(r"(\d+)s", SERVICES["worker"]["stop_grace_period"])
    assert period is not None
    assert int(period[1]) > float(flag("worker", "--grace"))


def test_the_image_holds_every_room_and_runs_without_root() -> None:
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    assert {*PACKAGES.values(), "examples", "constraints/runtime.txt"} <= copied
    assert [source for source in sorted(copied) if not (ROOT / source).exists()] == []
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert {source.split("/", 1)[0] for source in copied} == set(allowed)
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER (?!root)\w+$", last_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["taskmill"]' in last_stage


def test_the_image_installs_only_what_is_pinned_by_hash() -> None:
    installs = re.findall(r"pip (?:install|wheel)[^&\n]*", DOCKERFILE)
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []


def redis_programs() -> Path:
    """The folder with redis-server and redis-cli: on PATH, else those of the oldest Redis."""
    on_path = shutil.which("redis-server")
    return Path(on_path).parent if on_path is not None and shutil.which("redis-cli") else oldest_redis()


@dataclass
class Native:
    """Runs the services' commands on this machine: container addresses, ports and paths are replaced, nothing else."""

    folder: Path
    redis_port: int
    http_port: int
    environment: dict[str, str]

    def translate(self, word: str) -> str:
        word = re.sub(r"\$\{REDIS_PASSWORD:\?[^}]*\}", PASSWORD, word).replace("$$", "$")
        word = word.replace("@redis:6379/", f"@127.0.0.1:{self.redis_port}/")
        word = word.replace("/app/", f"{ROOT}/").replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"\b8000\b", str(self.http_port), word)

    def command(self, service: str) -> list[str]:
        words = [self.translate(word) for word in SERVICES[service]["command"]]
        if service == "redis":
            return [*words, "--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [str(Path(sys.executable).parent / "taskmill"), *words]

    def variables(self, service: str) -> dict[str, str]:
        own = {name: self.translate(value) for name, value in SERVICES[service]["environment"].items()}
        return self.environment | own

    def start(self, service: str) -> subprocess.Popen[bytes]:
        with self.log(service).open("wb") as log:
            return subprocess.Popen(
                self.command(service),
                cwd=self.folder,
                env=self.variables(service),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def is_healthy(self, service: str) -> bool:
        """One run of the service's own health check, as Docker would run it."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        words = [self.translate(word).replace("redis-cli", f"redis-cli -p {self.redis_port}") for word in words]
        if words[0] == "python":
            words[0] = sys.executable
        line = words[0] if kind == "CMD-SHELL" else shlex.join(words)
        return (
            subprocess.run(["sh", "-c", line], env=self.variables(service), capture_output=True, check=False).returncode
            == 0
        )

    def wait_until_healthy(self, service: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.is_healthy(service):
            assert process.poll() is None, f"{service} ended: {self.log(service).read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{service} is not healthy: {self.log(service).read_text()[-3000:]}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Native:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    inherited["PATH"] = f"{redis_programs()}{os.pathsep}{inherited['PATH']}"
    return Native(tmp_path_factory.mktemp("compose"), free_port(), free_port(), inherited)


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOPS_WITHIN)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def redis(native: Native) -> Iterator[subprocess.Popen[bytes]]:
    process = native.start("redis")
    try:
        native.wait_until_healthy("redis", process)
        yield process
    finally:
        stop(process)


@pytest.fixture(scope="module")
def server(native: Native, redis: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = native.start("server")
    try:
        native.wait_until_healthy("server", process)
        yield process
    finally:
        stop(process)


def test_a_health_check_fails_while_nothing_listens(native: Native) -> None:
    nowhere = Native(native.folder, free_port(), free_port(), native.environment)
    assert [service for service in ("redis", "server") if nowhere.is_healthy(service)] == []


@pytest.mark.usefixtures("redis")
def test_redis_lets_no_one_in_without_the_password(native: Native) -> None:
    words = ["redis-cli", "-p", str(native.redis_port), "ping"]
    done = subprocess.run(words, env=native.environment, capture_output=True, text=True, check=True)
    assert "NOAUTH" in done.stdout


@pytest.mark.usefixtures("redis")
def test_redis_runs_as_its_command_says(native: Native) -> None:
    def ask(name: str) -> str:
        words = ["redis-cli", "-p", str(native.redis_port), "config", "get", name]
        variables = native.environment | {"REDISCLI_AUTH": PASSWORD}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
        return done.stdout.split()[1]

    assert (ask("appendonly"), ask("maxmemory-policy")) == ("yes", "noeviction")


@pytest.mark.usefixtures("server")
def test_server_and_worker_run_a_task_as_their_commands_say(native: Native) -> None:
    """The whole file at work: a call through the server is answered from the worker, which then stops with exit 0."""
    (native.folder / "sample").mkdir()
    (native.folder / "sample" / "one.py").write_text('"""A module."""\n', encoding="utf-8")
    assert not native.is_healthy("worker"), "none runs"
    worker = native.start("worker")
    try:
        native.wait_until_healthy("worker", worker)
        url = f"http://127.0.0.1:{native.http_port}/mcp"
        example = native.translate(SERVICES["server"]["command"][1])
        words = ["call", example, "survey", f"path={native.folder / 'sample'}", "--url", url, "--json"]
        taskmill = str(Path(sys.executable).parent / "taskmill")
        done = subprocess.run(
            [taskmill, *words],
            env=native.environment,
            cwd=native.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, (
            f"{done.stderr}\n{native.log('server').read_text()}\n{native.log('worker').read_text()}"
        )
        assert json.loads(done.stdout)
    finally:
        code = stop(worker)
    assert code == 0, native.log("worker").read_text()[-3000:]
