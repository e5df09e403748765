"""An S3 server for tests: moto's, from `.venv-peers`, as a process of its own with one empty bucket."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["BUCKET", "s3_server"]

BUCKET = "taskmill-tests"
_PROGRAM = Path(__file__).parents[2] / ".venv-peers" / "bin" / "moto_server"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The environment in which `s3://taskmill-tests` is the bucket. Skips the test where scripts/peers was not run."""
    if not _PROGRAM.exists():
        pytest.skip("no .venv-peers: run scripts/peers")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    silent = subprocess.DEVNULL
    process = subprocess.Popen([_PROGRAM, "-H", "127.0.0.1", "-p", str(port)], stdout=silent, stderr=silent)
    try:
        address = f"http://127.0.0.1:{port}"
        _make_bucket(process, address)
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()


def _make_bucket(process: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            put = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
            with urllib.request.urlopen(put):
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the S3 server did not start"
            assert time.monotonic() < deadline, "the S3 server does not answer"
        time.sleep(0.05)
