"""What a tool process gives up before it loads anything of the author's, and cannot get back (Linux).

Each part is best effort: what a kernel does not have is left out, and docs/isolation.md says what then remains.
"""

import ctypes
import os
import resource
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["LIMIT_OF_ERRNO", "confine", "limit_cpu", "limit_for_life", "limit_memory"]

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPGET, _CAPSET = {"x86_64": (125, 126), "aarch64": (90, 91)}.get(os.uname().machine, (0, 0))
_CAPABILITIES_V3 = 0x20080522
_KEPT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 10, 23)
"""Of a worker that runs as root: those to do as it likes with files, users, signals and ports. None reaches into other
processes, the kernel or the devices. CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE,
SYS_NICE."""
_LAST_CAPABILITY = 63
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION = 1
_LANDLOCK_PATH_BENEATH = 1
_MAKE_BLOCK_DEVICE, _REFER = 1 << 11, 1 << 13
_SCOPE_SIGNAL = 1 << 1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAPPED_BEYOND = 256 * 1024 * 1024
"""Bytes that later attempts may have mapped and not use: threads and allocators map more than they need."""

LIMIT_OF_ERRNO = {"EMFILE": "open_files", "EFBIG": "file_size"}
"""The limit that an `OSError` of this name means, where there is one."""


def confine() -> None:
    """Keep this process, and all that it starts, out of every other process. No other thread may run yet."""
    if sys.platform != "linux":
        return
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities(libc)
    _enter_landlock(libc)
    with suppress(OSError):
        # Where the machine runs out of memory, the kernel takes this process and not the worker.
        Path("/proc/self/oom_score_adj").write_text("1000")


def _drop_capabilities(libc: Any) -> None:
    """Give up what lets root read other processes, load modules, or raise its limits again."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITIES_V3, 0))
    data = ctypes.create_string_buffer(24)
    if not _CAPGET or libc.syscall(_CAPGET, header, data) != 0:
        return
    words = struct.unpack("6I", data.raw)  # effective, permitted, inheritable: the low halves, then the high ones
    if not any(words):
        return
    for capability in set(range(_LAST_CAPABILITY + 1)) - set(_KEPT_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    kept = sum(1 << capability for capability in _KEPT_CAPABILITIES)
    data = ctypes.create_string_buffer(struct.pack("6I", *(word & kept for word in words[:3]), 0, 0, 0))
    libc.syscall(_CAPSET, header, data)


def _enter_landlock(libc: Any) -> None:
    """Enter a Landlock domain: a process in one may not look into a process outside it, root or not.

    What the domain itself forbids hardly matters, but it must forbid something: signals to other processes, where the
    kernel knows that; else the making of block devices.
    """
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version >= 6:
        attributes = struct.pack("QQQ", 0, 0, _SCOPE_SIGNAL)
    elif version >= 2:
        attributes = struct.pack("Q", _MAKE_BLOCK_DEVICE | _REFER)
    else:
        return  # the first version forbids to move files between folders, always
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return
    if version < 6:
        root = os.open("/", os.O_PATH)
        libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, struct.pack("=Qi", _REFER, root), 0)
        os.close(root)
    libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def limit_for_life(limits: dict[str, Any]) -> None:
    """Set the limits that this process can never raise again. A tool sees an `OSError` or a `MemoryError`."""
    if limits["open_files"] is not None:
        _set_hard(resource.RLIMIT_NOFILE, limits["open_files"])
    if limits["file_size"] is not None:
        _set_hard(resource.RLIMIT_FSIZE, limits["file_size"])
    if limits["memory"] is not None and (unused := _mapped_and_unused()) is not None:
        _set_hard(resource.RLIMIT_AS, unused + limits["memory"] + _MAPPED_BEYOND)


def limit_memory(limit: int | None) -> None:
    """Limit the memory of this process in this attempt to `limit` bytes, without what is mapped and not used."""
    if limit is None or (unused := _mapped_and_unused()) is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = unused + limit
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def limit_cpu(limit: float | None) -> None:
    """End each process of this attempt with SIGXCPU, a second after it alone has used `limit` seconds; None = never."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = hard if limit is None else int(used.ru_utime + used.ru_stime + limit) + 2
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _mapped_and_unused() -> int | None:
    """Bytes; None on a system without `/proc`, which does not keep this limit either."""
    try:
        mapped, resident = (int(word) * _PAGE for word in Path("/proc/self/statm").read_text().split()[:2])
    except OSError:
        return None
    return mapped - resident


def _set_hard(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (lowest, lowest))
