"""Seal keys, the end of a transition, and secrets of webhooks, as operators write them."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

__all__ = ["check_seal_keys", "parse_seal_keys", "parse_transition", "parse_webhook_secrets"]

_YES, _NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off", ""})
_SECRET = "whsec_"  # noqa: S105  # how every secret begins
_SHORTEST_SECRET, _LONGEST_SECRET = 24, 64
_NEW_SECRET = "try: echo whsec_$(openssl rand -base64 32)"  # noqa: S105  # a command


def parse_seal_keys(text: str) -> tuple[bytes, ...]:
    """Keys in base64, separated by commas or lines; lines that begin with # do not count.

    Raises:
        ValueError: one is not base64, or has not 32 bytes; it is not shown.
    """
    try:
        return check_seal_keys([base64.b64decode(part, validate=True) for part in _parts(text)])
    except binascii.Error as exc:
        raise ValueError("keys must be base64") from exc


def check_seal_keys(keys: Sequence[bytes]) -> tuple[bytes, ...]:
    """The keys, each of which is fit for AES-256.

    Raises:
        ValueError: one is not.
    """
    if any(len(key) != 32 for key in keys):
        raise ValueError("every key must be 32 bytes (try: openssl rand -base64 32)")
    return tuple(keys)


def parse_webhook_secrets(text: str) -> tuple[bytes, ...]:
    """Secrets, each `whsec_` and 24 to 64 bytes in base64, separated by commas or lines, as those of seal keys are.

    Raises:
        ValueError: one is not; it is not shown.
    """
    secrets = []
    for part in _parts(text):
        try:
            secrets.append(base64.b64decode(part.removeprefix(_SECRET), validate=True))
        except ValueError:  # `binascii.Error` is one, and so is that of a letter outside ASCII
            raise ValueError(f"every secret must be {_SECRET} and base64 ({_NEW_SECRET})") from None
    if any(not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET for secret in secrets):
        raise ValueError(f"every secret must have {_SHORTEST_SECRET} to {_LONGEST_SECRET} bytes ({_NEW_SECRET})")
    return tuple(secrets)


def _parts(text: str) -> list[str]:
    """What commas and lines separate, without the lines that begin with #."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [part.strip() for line in lines for part in line.split(",") if part.strip()]


def parse_transition(text: str) -> bool | datetime:
    """Yes, no, or until when: a day, to its end in UTC, or a time with its zone.

    Raises:
        ValueError: it is none of these.
    """
    word = text.strip().lower()
    if word in _YES | _NO:
        return word in _YES
    try:
        if len(word) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(word) + timedelta(days=1), time(), UTC)
        until = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError("must be true, false, a day such as 2026-01-31, or a time such as 2026-01-31T18:00Z") from None
    if until.tzinfo is None:
        raise ValueError("the time needs its zone, such as Z or +01:00")
    return until
