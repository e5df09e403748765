"""Where the seal keys come from: the settings, a file, or a function of the operator's that asks a key service.

A file and a function are read again while the process runs, so that keys rotate without a restart. A process has one
ring for each of them.
"""

import asyncio
import importlib
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import structlog

from taskmill.engine.errors import SettingsError
from taskmill.store.formats.key_texts import check_seal_keys, parse_seal_keys
from taskmill.store.formats.sealing import KeyRing, Sealer
from taskmill.store.setting_names import setting_name
from taskmill.store.settings import StoreSettings

__all__ = ["open_keys", "read_keys", "sealer_of"]

log = structlog.get_logger()

_FIRST_READING = 30.0
"""Seconds that the first reading may take."""
_SOONEST = 2.0
"""Seconds between readings, at least, also where payloads with an unknown key are found."""
_AWAITED = 1000
"""Ids of unknown keys that are remembered."""


class _Source:
    """A ring, and a thread that reads its keys, now and again while someone has it open."""

    def __init__(self, name: str, read: Callable[[], tuple[bytes, ...]], every: float) -> None:
        self.ring = KeyRing(on_missing=self._may_come)
        self._name = name
        self._read = read
        self._every = every
        self._lock = threading.Lock()
        self._users = 0
        self._wake = threading.Event()
        self._has_read = threading.Event()
        self._readings = 0
        self._awaited: dict[bytes, int] = {}
        self._fault: SettingsError | None = None

    async def open(self) -> None:
        """Return once the keys are known.

        Raises:
            SettingsError: they cannot be read.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._has_read, self._wake, self._fault = threading.Event(), threading.Event(), None
                threading.Thread(target=self._run, args=(self._wake,), name="taskmill.seal_keys", daemon=True).start()
        is_known = await asyncio.to_thread(self._has_read.wait, _FIRST_READING)
        if is_known and self._fault is None:
            return
        self.close()
        raise self._fault or SettingsError(f"{self._name} did not return the seal keys within {_FIRST_READING:g} s.")

    def close(self) -> None:
        """The opener needs the keys no longer."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._wake.set()

    def _run(self, wake: threading.Event) -> None:
        try:
            self._exchange(self._read())
        except SettingsError as exc:
            self._fault = exc
        self._has_read.set()
        read_at = monotonic()
        while self._fault is None and self._is_current(wake):
            wake.wait(self._every)
            if self._is_current(wake) and wake.is_set():
                wake.clear()
                threading.Event().wait(max(0.0, read_at + _SOONEST - monotonic()))
            if not self._is_current(wake):
                return
            read_at = monotonic()
            try:
                self._exchange(self._read())
            except SettingsError as exc:
                log.error("seal.keys_unreadable", why=str(exc), hint="the keys that were read before stay in use")

    def _is_current(self, wake: threading.Event) -> bool:
        """Whether someone has the source open, by this thread."""
        with self._lock:
            return self._users > 0 and self._wake is wake

    def _exchange(self, keys: tuple[bytes, ...]) -> None:
        if keys != self.ring.keys:
            is_first = not self.ring.keys
            self.ring.replace(keys)
            log.info("seal.keys_read" if is_first else "seal.keys_rotated", keys=len(keys), source=self._name)
        self._readings += 1

    def _may_come(self, key_id: bytes) -> bool:
        """Whether a key may be among those of the next reading, which is then soon."""
        if len(self._awaited) >= _AWAITED:
            self._awaited.clear()
        asked_at = self._awaited.setdefault(key_id, self._readings)
        if self._readings >= asked_at + 2:  # one reading may have begun before
            return False
        self._wake.set()
        return True


_sources: dict[str, _Source] = {}


def sealer_of(settings: StoreSettings) -> Sealer:
    """What seals and opens with the keys of these settings; those of a file or function are known in `open_keys`."""
    source = _source_of(settings)
    ring = KeyRing(settings.seal_keys) if source is None else source.ring
    return Sealer(ring, accept_unsealed=settings.seal_accept_unsealed or False)


@asynccontextmanager
async def open_keys(settings: StoreSettings) -> AsyncIterator[None]:
    """The keys are known inside, and read again if they come from a file or a function.

    Raises:
        SettingsError: they cannot be had; the message says why.
    """
    source = _source_of(settings)
    if source is not None:
        await source.open()
    try:
        _warn_of_transition(settings)
        yield
    finally:
        if source is not None:
            source.close()


async def read_keys(settings: StoreSettings) -> int:
    """How many keys there are.

    Raises:
        SettingsError: they cannot be had; the message says why.
    """
    source = _source_of(settings)
    if source is None:
        return len(settings.seal_keys)
    await source.open()
    source.close()
    return len(source.ring.keys)


def _warn_of_transition(settings: StoreSettings) -> None:
    until = settings.seal_accept_unsealed
    if not until:
        return
    facts: dict[str, Any] = {"until": "no end" if until is True else until.isoformat()}
    if not settings.has_seal_keys:
        log.warning("seal.accepts_unsealed", **facts, hint="there are no seal keys, so nothing is sealed at all")
    else:
        hint = "who can write to Redis can have unsealed payloads served: remove TASKMILL_SEAL_ACCEPT_UNSEALED soon"
        log.warning("seal.accepts_unsealed", **facts, hint=hint)


def _source_of(settings: StoreSettings) -> _Source | None:
    if settings.seal_keys_file is not None:
        path = settings.seal_keys_file.absolute()
        name = f"{setting_name('seal_keys_file')}: {path}"
        return _shared(name, lambda: _keys_of_file(name, settings), settings.seal_keys_refresh)
    if settings.seal_key_provider is not None:
        name = f"{setting_name('seal_key_provider')}: {settings.seal_key_provider}"
        return _shared(name, lambda: _keys_of_function(name, settings), settings.seal_keys_refresh)
    return None


def _shared(name: str, read: Callable[[], tuple[bytes, ...]], every: float) -> _Source:
    if name not in _sources:
        _sources[name] = _Source(name, read, every)
    return _sources[name]


def _keys_of_file(name: str, settings: StoreSettings) -> tuple[bytes, ...]:
    assert settings.seal_keys_file is not None
    try:
        keys = parse_seal_keys(settings.seal_keys_file.read_text(encoding="ascii"))
    except OSError as exc:
        raise SettingsError(f"{name} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise SettingsError(f"{name}: {'keys must be base64' if isinstance(exc, UnicodeError) else exc}.") from exc
    if not keys:
        raise SettingsError(f"{name} has no key. Put one in base64 on a line (openssl rand -base64 32).")
    return keys


def _keys_of_function(name: str, settings: StoreSettings) -> tuple[bytes, ...]:
    assert settings.seal_key_provider is not None
    module, _, function = settings.seal_key_provider.partition(":")
    try:
        found = getattr(_imported(module), function)()
        if inspect.isawaitable(found):
            found = asyncio.run(_result_of(found))
    except Exception as exc:
        raise SettingsError(f"{name} failed: {type(exc).__name__}: {exc}") from exc
    try:
        keys = _checked(found)
    except (TypeError, ValueError) as exc:
        words = "It must return a list of keys, each as 32 bytes or in base64, the one that seals first"
        raise SettingsError(f"{name}: {words}: {exc}.") from exc
    return keys


def _imported(module: str) -> ModuleType:
    """The module, from where Python finds modules, else from the folder of the command, which may have no file."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        folder = str(Path.cwd())
        if exc.name != module.partition(".")[0] or folder in sys.path:
            raise
        sys.path.append(folder)
        return importlib.import_module(module)


async def _result_of(found: Any) -> Any:
    return await found


def _checked(found: Any) -> tuple[bytes, ...]:
    """The keys that a function returned.

    Raises:
        TypeError, ValueError: it returned something else.
    """
    if isinstance(found, str):
        keys = parse_seal_keys(found)
    elif isinstance(found, Iterable) and not isinstance(found, bytes):
        keys = check_seal_keys([bytes(key) if isinstance(key, bytes | bytearray) else _one(key) for key in found])
    else:
        raise TypeError(f"it returned {type(found).__name__}")
    if not keys:
        raise ValueError("it returned no key")
    return keys


def _one(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"a key is {type(key).__name__}")
    (parsed,) = parse_seal_keys(key)
    return parsed
