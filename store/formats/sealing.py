"""Payloads at rest: JSON bytes, sealed with AES-GCM when keys are configured.

The task id and the field name are bound as associated data, so a payload cannot be moved to another task or field.
Key rotation: the first key seals, every key opens; drop an old key once the longest retention has passed.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taskmill.engine.errors import DecryptionFailed

__all__ = ["Sealer"]

_MARK = b"\x01wl"
"""First bytes of a sealed payload; JSON never starts so."""
_KEY_ID = 4
_NONCE = 12

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""`json.dumps` would make an encoder for every call."""


class Sealer:
    """Turns values into stored bytes and back."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ring = {hashlib.sha256(key).digest()[:_KEY_ID]: AESGCM(key) for key in keys}
        self._current = next(iter(self._ring), None)

    def seal(self, value: Any, *, task_id: str, field: str) -> bytes:
        """`value` as JSON, sealed if there is a key.

        Raises:
            TypeError, ValueError: `value` is not JSON.
        """
        try:
            plain = _encode(value).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if self._current is None:
            return plain
        nonce = os.urandom(_NONCE)
        sealed = self._ring[self._current].encrypt(nonce, plain, f"{task_id}:{field}".encode())
        return _MARK + self._current + nonce + sealed

    def open(self, stored: bytes, *, task_id: str, field: str) -> Any:
        """The value that was sealed for this task and field.

        Raises:
            SealBroken: sealed with a key that is not in the ring, for another task, or changed since, or is no JSON.
        """
        if not stored.startswith(_MARK):
            return _parsed(stored, task_id)
        at = len(_MARK)
        key = self._ring.get(stored[at : at + _KEY_ID])
        if key is None:
            raise DecryptionFailed(
                "A stored payload was sealed with a key that is not in TASKMILL_SEAL_KEYS.", task_id=task_id
            )
        at += _KEY_ID
        try:
            plain = key.decrypt(stored[at : at + _NONCE], stored[at + _NONCE :], f"{task_id}:{field}".encode())
        except (InvalidTag, ValueError) as exc:  # a cut one may have too little left for a nonce
            raise DecryptionFailed(task_id=task_id) from exc
        return _parsed(plain, task_id)


def _parsed(text: bytes, task_id: str) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as exc:  # not UTF-8 is a ValueError, too
        raise DecryptionFailed("A stored payload is not JSON: it was changed.", task_id=task_id) from exc
