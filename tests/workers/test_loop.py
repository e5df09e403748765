"""The event loop that a worker process runs on: the one `taskmill serve` runs on too."""

import asyncio
import sys

import pytest
import uvloop

from taskmill.workers.worker import _fast_loop


def test_a_worker_runs_on_uvloop() -> None:
    loop = _fast_loop()
    loop.close()
    assert isinstance(loop, uvloop.Loop)


def test_a_worker_runs_on_asyncios_own_loop_where_there_is_no_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = _fast_loop()
    loop.close()
    assert isinstance(loop, asyncio.SelectorEventLoop)
