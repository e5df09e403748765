"""nginx and Caddy as our samples configure them: names, ports and paths are this machine's, nothing else is changed."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.redis_server import free_port, listens
from tests.support.self_signed import write_certificate
from tests.support.system_programs import find_program
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/taskmill.conf;
}}
"""
"""What a distribution has in /etc/nginx/nginx.conf, around the files of conf.d."""


class ReverseProxy:
    """A proxy that runs."""

    def __init__(self, name: str, certificate: Path, log: Path) -> None:
        self.name = name
        self.certificate = certificate
        self.port = free_port()
        self.plain_port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.log = log


@contextmanager
def nginx(folder: Path, ports: tuple[int, int]) -> Iterator[ReverseProxy]:
    """nginx by `examples/nginx/taskmill.conf`, in front of replicas at these ports."""
    program = _needed("nginx", "nginx-light")
    certificate, key = write_certificate(folder)
    proxy = ReverseProxy("nginx", certificate, folder / "nginx.log")
    sample = _of_this_machine((EXAMPLES / "nginx" / "taskmill.conf").read_text(), ports)
    sample = sample.replace("listen 80;", f"listen 127.0.0.1:{proxy.plain_port};")
    sample = sample.replace("listen 443 ", f"listen 127.0.0.1:{proxy.port} ")
    sample = sample.replace("/etc/ssl/taskmill/fullchain.pem", str(certificate))
    sample = sample.replace("/etc/ssl/taskmill/privkey.pem", str(key))
    (folder / "taskmill.conf").write_text(sample)
    user = "user root;" if os.geteuid() == 0 else ""  # the folder is closed to others
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user))
    words = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with _running(words, proxy, signal.SIGTERM):
        yield proxy


@contextmanager
def caddy(folder: Path, ports: tuple[int, int]) -> Iterator[ReverseProxy]:
    """Caddy by `examples/caddy/Caddyfile`, in front of replicas at these ports."""
    program = _needed("caddy", "caddy")
    certificate, key = write_certificate(folder)
    proxy = ReverseProxy("caddy", certificate, folder / "caddy.log")
    sample = _of_this_machine((EXAMPLES / "caddy" / "Caddyfile").read_text(), ports)
    # A certificate of our own, where Caddy fetches one for a name of the internet.
    sample = sample.replace("localhost {", f"localhost:{proxy.port} {{\n\ttls {certificate} {key}", 1)
    sample = sample.replace("{\n", f"{{\n\tadmin off\n\thttp_port {proxy.plain_port}\n", 1)
    (folder / "Caddyfile").write_text(sample)
    variables = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with _running([program, "run", "--config", str(folder / "Caddyfile")], proxy, signal.SIGKILL, variables):
        yield proxy


def _of_this_machine(sample: str, ports: tuple[int, int]) -> str:
    found = re.sub("127.0.0.1:(8000|8001)", lambda match: f"127.0.0.1:{ports[int(match[1]) - 8000]}", sample)
    assert found.count("127.0.0.1:") == 2, "the two replicas"
    return found.replace("tools.example.com", "localhost")


def _needed(name: str, package: str) -> str:
    program = find_program((name, f"/usr/sbin/{name}"), package)
    if program is None:
        reason = f"{name.upper()} DID NOT RUN: it is not on this machine (Debian: apt-get install {package})"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return program


@contextmanager
def _running(
    words: list[str], proxy: ReverseProxy, end: signal.Signals, variables: dict[str, str] | None = None
) -> Iterator[None]:
    with proxy.log.open("wb") as output:
        process = subprocess.Popen(words, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or all(map(listens, (proxy.port, proxy.plain_port))))
        assert all(map(listens, (proxy.port, proxy.plain_port))), proxy.log.read_text()
        yield
        assert process.poll() is None, proxy.log.read_text()
    finally:
        process.send_signal(end)
        process.wait()
