"""The part `wire`: odd framing, cut, slow and endless requests to a real replica over a real socket."""

import asyncio
import re
import time
from contextlib import suppress

import httpx2

from tests.fuzz.choices import Choices
from tests.fuzz.examples import drive
from tests.fuzz.mutation import mutated_bytes
from tests.fuzz.oracle import revealed_internals
from tests.fuzz.processes import ServerProcesses
from tests.fuzz.raw_requests import HONEST, ODD_FRAMES, Pieces
from tests.fuzz.report import Report

__all__ = ["attack_wire"]

_QUIET = 0.15
"""Seconds without a byte after which the replica is taken to wait for more."""
_TIMEOUT = 30.0
"""Seconds within which it has to let go of a connection that its client has closed."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_SIZE = 64


def attack_wire(examples: int, *, is_random: bool = False) -> Report:
    """Every odd frame once, then that many mutated ones."""
    report = Report("wire")
    with ServerProcesses() as processes, asyncio.Runner() as runner:
        begun = time.perf_counter()
        for name, pieces in ODD_FRAMES.items():
            report.examples += 1
            if faults := runner.run(_faults(processes, pieces)):
                report.found([f"{name}: {fault}" for fault in faults], repr(pieces)[:2000])
        report.seconds = time.perf_counter() - begun

        def judge(data: bytes) -> tuple[list[str], str]:
            text = mutated_bytes(HONEST, Choices(data))
            return runner.run(_faults(processes, (text,))), repr(text)[:2000]

        drive(report, judge, examples=examples, size=_SIZE, is_random=is_random)
        if faults := _faults_afterwards(processes):
            report.found(faults, "everything before")
    return report


async def _faults(processes: ServerProcesses, pieces: Pieces) -> list[str]:
    """What is wrong with how a connection was served."""
    answer, is_closed = await _talk(processes.port, pieces)
    said = repr(pieces)
    faults = [] if is_closed else [f"hang: the connection is open {_TIMEOUT:g} s after its client closed it"]
    faults += [f"status {status.decode()}" for status in _STATUS.findall(answer) if int(status) >= 500]
    faults += [f"reveals an internal: {word!r}" for word in revealed_internals(answer.decode("latin-1"), said)]
    return faults + processes.faults()


async def _talk(port: int, pieces: Pieces) -> tuple[bytes, bool]:
    """What came back, and whether the connection was let go when the client closed its side."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), _TIMEOUT)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(_read(reader, answer), piece)
        while await asyncio.wait_for(_read(reader, answer), _QUIET):
            pass
    except (TimeoutError, ConnectionError):
        pass  # it waits for more, or has had enough
    try:
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(_TIMEOUT):
            while await _read(reader, answer):
                pass
    except TimeoutError:
        return bytes(answer), False
    except (ConnectionError, OSError):
        pass
    finally:
        writer.close()
    return bytes(answer), True


async def _read(reader: asyncio.StreamReader, answer: bytearray) -> bool:
    data = await reader.read(65_536)
    answer += data
    return bool(data)


def _faults_afterwards(processes: ServerProcesses) -> list[str]:
    with httpx2.Client(timeout=30) as http:
        ready = http.get(f"{processes.address}/readyz")
        listed = http.get(f"{processes.address}/api/tasks", headers={"authorization": "Bearer issuer/app/ada"})
    good = (ready.status_code, listed.status_code) == (200, 200)
    return processes.faults() + ([] if good else [f"it no longer serves: {ready.status_code}, {listed.status_code}"])
