"""What an answer, a log and a Redis must never show, whatever was sent."""

import logging
import re
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.testing import capture_logs

from taskmill.store.formats.keys import UNEXPIRING, Keys
from tests.fuzz.asgi import Answer, Asked
from tests.fuzz.server import CRASH, RESULT
from tests.fuzz.valid_requests import messages
from tests.support.invariants import Found

__all__ = ["ARGUMENT", "Log", "faults_of", "revealed_internals", "watched", "wrong_keys"]

ARGUMENT = "swordfish-argument"
"""In the arguments of hostile calls: never in a log."""
_INTERNALS = re.compile(
    r"Traceback \(most recent|File \"[^\"\n]+\", line \d+|\b[A-Z][A-Za-z]+(?:Error|Exception|Warning)\b|codec can't|"
    r"(?:/[\w.-]+)+\.(?:py|lua|so)\b|site-packages|<[\w.]+ object at 0x|(?i:\bredis\b|\blua\b|user_script|evalsha)|"
    rf"WRONGTYPE|NOSCRIPT|\bpydantic_core\b|{CRASH}"
)
_INTERNAL = -32603
_EXPECTED_REASONS = ("quota", "cancelled")
_CRASHED = "tool.crashed"
"""Event of the log that tells of a crash of a tool; wanted, where the tool crashed on purpose."""


def revealed_internals(text: str, asked: str = "") -> list[str]:
    """Words of a crash in a text that the request did not have."""
    return sorted({found for found in _INTERNALS.findall(text) if found not in asked})


def faults_of(asked: Asked, answer: Answer) -> list[str]:
    """What is wrong with an answer, in words; [] for a sound one."""
    faults = [f"hang: {answer.hung}"] if answer.hung else []
    if answer.crash is not None:
        faults.append(f"crash: {type(answer.crash).__name__}: {answer.crash}"[:300])
    if answer.status >= 500:
        faults.append(f"status {answer.status}: {answer.body[:200]!r}")
    if not answer.status and not asked.may_wait and not answer.hung:
        faults.append("no answer at all")
    told = answer.body.decode("utf-8", "replace") + repr(answer.headers)
    faults += [f"reveals an internal: {word!r}" for word in revealed_internals(told, asked.text)]
    return faults + _faults_of_messages(answer)


def _faults_of_messages(answer: Answer) -> list[str]:
    if "json" not in answer.header(b"content-type") and not answer.is_stream:
        return []
    try:
        said = messages(answer)
    except (ValueError, UnicodeDecodeError) as exc:
        return [f"not JSON: {exc}: {answer.body[:200]!r}"]
    return [f"internal error: {one['error']}" for one in said if _is_internal(one)]


def _is_internal(message: Any) -> bool:
    error = message.get("error") if isinstance(message, dict) else None
    if not isinstance(error, dict):
        return False
    data = error.get("data")
    expected = isinstance(data, dict) and data.get("reason") in _EXPECTED_REASONS
    return (error.get("code") in (_INTERNAL, "internal")) and not expected


class Log:
    """What was logged while it was watched."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.records: list[logging.LogRecord] = []

    def faults(self) -> list[str]:
        """What no log may hold, whatever was sent: a crash of ours, an argument, a result. Empties the log."""
        lines = [(event["event"], event["log_level"], _shown(event)) for event in self.events]
        lines += [(record.name, record.levelname.lower(), _told(record)) for record in self.records]
        self.events.clear()
        self.records.clear()
        faults = [f"logged {secret}: {line[:300]}" for _, _, line in lines for secret in _secrets(line)]
        severe = [(name, line) for name, level, line in lines if level in ("error", "critical")]
        unwanted = [line for name, line in severe if name != _CRASHED or CRASH not in line]
        return faults + [f"logged a crash: {line[-600:]}" for line in unwanted]


def _secrets(line: str) -> list[str]:
    return [secret for secret in (ARGUMENT, RESULT) if secret in line]


def _shown(event: dict[str, Any]) -> str:
    exc = event.get("exc_info")
    trace = "".join(traceback.format_exception(exc)) if isinstance(exc, BaseException) else ""
    return f"{ {name: value for name, value in event.items() if name != 'exc_info'} }{trace}"


def _told(record: logging.LogRecord) -> str:
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return f"{record.name}: {record.getMessage()}{trace}"


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.records.append(record)


@contextmanager
def watched() -> Iterator[Log]:
    """Everything that is logged in this process meanwhile, by us and by libraries, as `taskmill` would write it."""
    log, root = Log(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [_Handler(log)]
    root.setLevel(logging.INFO)
    try:
        with capture_logs() as events, structlog.contextvars.bound_contextvars():
            log.events = events
            yield log
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def wrong_keys(found: Found) -> list[str]:
    """What Redis holds that it must not: keys that no one declared, keys for ever, keys of tasks that never were."""
    keys, faults = found.keys, []
    known = {member.decode() for member, _ in found.values.get(keys.all, [])}
    for key, ttl in found.ttls.items():
        family = _family(key, keys)
        if not family:
            faults.append(f"no one declares the key {key!r}")
        elif ttl == -1 and family not in UNEXPIRING:
            faults.append(f"{key!r} never expires")
        elif family in ("task:", "events:", "args:", "inputs:") and key.split(":", 2)[2] not in known:
            faults.append(f"{key!r} is of no task")
    return faults


def _family(key: str, keys: Keys) -> str:
    stems = {stem: stem.removeprefix(keys.root) for stem in (*keys._stems.values(), *_sets(keys))}
    return next(
        (family for stem, family in stems.items() if key == stem or (stem[-1] == ":" and key.startswith(stem))), ""
    )


def _sets(keys: Keys) -> tuple[str, ...]:
    return tuple(key for key in vars(keys).values() if isinstance(key, str) and key != keys.root)


def summary(faults: Counter[str]) -> list[str]:
    """Faults with how often they were seen, the commonest first."""
    return [f"{count} x {fault}" for fault, count in faults.most_common()]
