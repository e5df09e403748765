"""Payloads at rest: JSON bytes, sealed with AES-GCM when keys are configured.

The record's id and the field's name are bound as associated data, so a payload cannot be moved to another task,
session or field. With keys nothing unsealed is accepted. Rotation: the first key seals, every key opens; drop an old
key once the longest retention has passed. Where the keys come from is in `store/seal_keys.py`.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taskmill.engine.errors import DecryptionFailed, SealKeyAwaited, SealKeyMissing
from taskmill.store.formats.json_text import read_json

__all__ = ["KEY_ID", "NONCE", "KeyRing", "Refusals", "SealKey", "Sealer", "args_field", "refusals"]

log = structlog.get_logger()

KEY_ID = 4
"""Bytes of the digest of a key that name it in what it sealed."""
NONCE = 12
_MARK = b"\x01tm"
"""First bytes of a sealed payload; JSON never starts so."""
_TEXT_MARK = "\x01tm:"
"""First characters of sealed text, where a script or an event needs text."""
_SIGNATURE = 16
_LOGGED = 10_000
"""Records and fields of refused payloads that a process remembers, so that each is logged once."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""`json.dumps` would make an encoder for every call."""


class Refusals:
    """Stored payloads that this process refused, for the log and for metrics."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[tuple[str, str, str]] = set()

    def note(self, record: str, field: str, why: str) -> None:
        """Count one, and log it unless it is known."""
        self.count += 1
        known = (record, field, why)
        if known in self._logged:
            return
        if len(self._logged) >= _LOGGED:
            self._logged.clear()
        self._logged.add(known)
        log.error("seal.refused", record=record, field=field, why=why)


refusals = Refusals()
"""Of this process."""


@dataclass(frozen=True, slots=True)
class SealKey:
    """One key, and what is derived of it."""

    id: bytes
    cipher: AESGCM
    signing: bytes

    @classmethod
    def of(cls, key: bytes) -> "SealKey":
        """A key of 32 bytes."""
        return cls(
            hashlib.sha256(key).digest()[:KEY_ID], AESGCM(key), hashlib.sha256(b"taskmill signing\0" + key).digest()
        )


class KeyRing:
    """The keys of this process, the first of which seals. They may be exchanged while it runs."""

    def __init__(self, keys: Sequence[bytes] = (), *, on_missing: Callable[[bytes], bool] | None = None) -> None:
        """`on_missing`: called with the id of a key that a payload names and that is not here, must not wait; whether
        the key may still come.
        """
        self._on_missing = on_missing
        self._comes_later = on_missing is not None
        self.replace(keys)

    def replace(self, keys: Sequence[bytes]) -> None:
        """From now on these are the keys."""
        by_id = {key.id: key for key in map(SealKey.of, keys)}
        self.keys, self._by_id, self._first = tuple(keys), by_id, next(iter(by_id.values()), None)

    @property
    def is_wanted(self) -> bool:
        """Whether payloads are to be sealed."""
        return self._first is not None or self._comes_later

    @property
    def current(self) -> SealKey | None:
        """The key that seals; None = nothing is sealed.

        Raises:
            DecryptionFailed: the keys have not been read yet, so nothing may be stored.
        """
        if self._first is None and self._comes_later:
            raise DecryptionFailed("The seal keys have not been read yet.")
        return self._first

    def find(self, key_id: bytes, task_id: str, field: str) -> SealKey:
        """The key of this id, for a payload.

        Raises:
            SealKeyMissing: it is not here; `SealKeyAwaited` if it may still come.
        """
        key = self._by_id.get(key_id)
        if key is not None:
            return key
        if self._on_missing is not None and len(key_id) == KEY_ID and self._on_missing(key_id):
            raise SealKeyAwaited(task_id=task_id)
        why = "sealed with a key that is not in TASKMILL_SEAL_KEYS"
        refusals.note(task_id, field, why)
        raise SealKeyMissing(f"Stored {field}: {why}.", task_id=task_id)


class Sealer:
    """Turns values into stored bytes and back."""

    def __init__(self, keys: KeyRing | Sequence[bytes] = (), *, accept_unsealed: bool | datetime = False) -> None:
        """`accept_unsealed`: whether, or until when, what is not sealed is read in spite of keys."""
        self.ring = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._accept_unsealed = accept_unsealed

    @property
    def has_keys(self) -> bool:
        """Whether payloads are sealed."""
        return self.ring.is_wanted

    @property
    def accepts_unsealed(self) -> bool:
        """Whether what is not sealed may be read: without keys always."""
        if not self.ring.is_wanted:
            return True
        until = self._accept_unsealed
        return until if isinstance(until, bool) else datetime.now(UTC) < until

    def seal(self, value: Any, *, task_id: str, field: str) -> bytes:
        """`value` as JSON, sealed if there is a key. `task_id`: of the task, or another record that it belongs to.

        Raises:
            TypeError, ValueError: `value` is not JSON.
        """
        try:
            plain = _encode(value).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return self.seal_bytes(plain, task_id=task_id, field=field)

    def seal_bytes(self, plain: bytes, *, task_id: str, field: str) -> bytes:
        """JSON that is written already, sealed if there is a key."""
        key = self.ring.current
        if key is None:
            return plain
        return _MARK + _sealed(key, plain, _bound(task_id, field), os.urandom(NONCE))

    def open(self, stored: bytes, *, task_id: str, field: str) -> Any:
        """The value that was sealed for this task and field.

        Raises:
            SealKeyMissing: it was sealed with a key that is not in the ring.
            DecryptionFailed: it was sealed for another task or field, or changed since, or is not sealed although
                there are keys, or is no JSON.
        """
        if not stored.startswith(_MARK):
            self._check_unsealed(task_id, field)
            return _parsed(stored, task_id)
        return _parsed(self._opened(stored, len(_MARK), task_id, field), task_id)

    def seal_text(self, text: str, *, task_id: str, field: str) -> str:
        """Text as text: the same each time while the key is the same, so that a script sees whether it has changed."""
        key = self.ring.current
        if key is None or not text:
            return text
        bound, plain = _bound(task_id, field), text.encode("utf-8", "replace")
        nonce = hashlib.blake2b(bound + b"\0" + plain, key=key.signing, digest_size=NONCE, person=b"nonce").digest()
        return _TEXT_MARK + base64.b64encode(_sealed(key, plain, bound, nonce)).decode()

    def open_text(self, stored: str, *, task_id: str, field: str) -> str:
        """The text that was sealed for this task and field.

        Raises:
            DecryptionFailed, SealKeyMissing: as of `open`.
        """
        if not stored:
            return stored
        if not stored.startswith(_TEXT_MARK):
            self._check_unsealed(task_id, field)
            return stored
        try:
            sealed = base64.b64decode(stored[len(_TEXT_MARK) :], validate=True)
        except (binascii.Error, ValueError):
            sealed = b""
        return self._opened(sealed, 0, task_id, field).decode()

    def seal_block(self, block: bytes, blob_id: str, number: int) -> bytes:
        """A block of an artifact, without a mark; there must be keys."""
        key = self.ring.current
        assert key is not None
        return _sealed(key, block, _bound(blob_id, f"block:{number}"), os.urandom(NONCE))

    def open_block(self, stored: bytes, blob_id: str, number: int) -> bytes:
        """The block that was sealed for this place in this artifact.

        Raises:
            DecryptionFailed, SealKeyMissing: as of `open`.
        """
        return self._opened(stored, 0, blob_id, f"block:{number}")

    def sign(self, task_id: str, *facts: str) -> str:
        """What shows that facts which scripts read in clear belong to a record; empty without keys."""
        key = self.ring.current
        return "" if key is None else _signature(key, task_id, facts)

    def check(self, signature: str, task_id: str, *facts: str) -> None:
        """Return if `sign` wrote the signature for these facts, with any key of the ring.

        Raises:
            DecryptionFailed, SealKeyMissing: it did not.
        """
        if not self.ring.is_wanted:
            return
        if not signature:
            self._check_unsealed(task_id, "record")
            return
        try:
            key_id = bytes.fromhex(signature)[:KEY_ID]
        except ValueError:
            key_id = b""
        key = self.ring.find(key_id, task_id, "record")
        if not hmac.compare_digest(signature.encode(), _signature(key, task_id, facts).encode()):
            raise self.refusal(task_id, "record", "its owner, tool or list was changed")

    def refusal(self, task_id: str, field: str, why: str) -> DecryptionFailed:
        """The error for a payload that is refused; it is counted and logged."""
        refusals.note(task_id, field, why)
        return DecryptionFailed(f"Stored {field}: {why}.", task_id=task_id)

    def _check_unsealed(self, task_id: str, field: str) -> None:
        if not self.accepts_unsealed:
            raise self.refusal(task_id, field, "not sealed, and TASKMILL_SEAL_ACCEPT_UNSEALED does not accept that")

    def _opened(self, stored: bytes, at: int, task_id: str, field: str) -> bytes:
        """What was sealed; `at`: where the key's id begins."""
        key_id, nonce = stored[at : at + KEY_ID], stored[at + KEY_ID : at + KEY_ID + NONCE]
        key = self.ring.find(key_id, task_id, field)
        try:
            return key.cipher.decrypt(nonce, stored[at + KEY_ID + NONCE :], _bound(task_id, field))
        except (InvalidTag, ValueError) as exc:  # a cut one may have too little left for a nonce
            raise self.refusal(task_id, field, "changed since it was sealed, or sealed for something else") from exc


def args_field(tool: str, principal: str) -> str:
    """The name under which arguments are sealed: another tool or owner cannot open them."""
    return f"args:{principal}:{tool}"


def _sealed(key: SealKey, plain: bytes, bound: bytes, nonce: bytes) -> bytes:
    return key.id + nonce + key.cipher.encrypt(nonce, plain, bound)


def _bound(task_id: str, field: str) -> bytes:
    """The associated data: no two pairs of an id and a field have the same."""
    return f"{len(task_id)}:{task_id}:{field}".encode()


def _signature(key: SealKey, task_id: str, facts: Sequence[str]) -> str:
    signed = "\0".join((task_id, *(f"{len(fact)}:{fact}" for fact in facts))).encode("utf-8", "replace")
    mac = hashlib.blake2b(signed, key=key.signing, digest_size=_SIGNATURE, person=b"record").digest()
    return (key.id + mac).hex()


def _parsed(text: bytes, task_id: str) -> Any:
    try:
        return read_json(text.decode())
    except (ValueError, RecursionError) as exc:  # not UTF-8 is a ValueError, too
        raise DecryptionFailed("A stored payload is not JSON: it was changed.", task_id=task_id) from exc
