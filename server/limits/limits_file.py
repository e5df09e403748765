"""Limits of one principal, or of all whose token has a claim, from a file of rules. Nothing here counts anything.

The file is read again when it changes. A mistake in it stops a server that starts, and is logged by one that runs.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import structlog

from taskmill.engine.errors import SettingsError
from taskmill.engine.principal import PrincipalLimits
from taskmill.server.changing_file import ChangingFile

__all__ = ["PRINCIPAL", "LimitRule", "LimitsFile", "read_rules"]

log = structlog.get_logger()

_LIMITS = tuple(field.name for field in fields(PrincipalLimits))
_RATES = ("creations", "requests")
"""Limits that need not be whole numbers."""
_MOST = 10**15
"""No limit is larger: a script in Redis counts exactly up to there."""
PRINCIPAL = re.compile(r"[0-9a-f]{64}")
_HEAD = re.compile(r"\s*\[\[\s*limits\s*\]\]")


@dataclass(frozen=True, slots=True)
class LimitRule:
    """Limits, and for whom they are: for one principal, or for tokens with all of these claims."""

    line: int | None
    """Where it stands in the file; None if it is not written as a table of its own."""
    principal: str | None
    claims: Mapping[str, Any]
    limits: Mapping[str, float]
    """By name, those of `PrincipalLimits`; 0 = no limit."""

    def fits(self, principal: str, claims: Mapping[str, Any]) -> bool:
        """Whether it is for a caller with these claims."""
        if self.principal is not None:
            return principal == self.principal
        return all(_has(_claim(claims, name), value) for name, value in self.claims.items())

    @property
    def precision(self) -> tuple[bool, int]:
        """Of two rules that fit, the one with more of it decides."""
        return self.principal is not None, len(self.claims)


class LimitsFile:
    """The rules of a file."""

    def __init__(self, file: Path) -> None:
        """Raises:
        SettingsError: the file cannot be read, or a rule cannot work.
        """
        self._file = ChangingFile(file)
        self._rules = read_rules(file)

    @property
    def count(self) -> int:
        """How many rules there are."""
        return len(self._rules)

    def limits_of(self, principal: str, claims: Mapping[str, Any], usual: PrincipalLimits) -> PrincipalLimits:
        """What a caller may have. `usual`: what holds where no rule names a limit."""
        given: dict[str, Any] = {name: value for name, (value, _) in self.sources(principal, claims).items()}
        return replace(usual, **given) if given else usual

    def sources(self, principal: str, claims: Mapping[str, Any]) -> dict[str, tuple[float, LimitRule]]:
        """The limits that rules give a caller, each with the rule it is from."""
        self._read_again()
        found: dict[str, tuple[float, LimitRule]] = {}
        for rule in self._rules:
            if rule.fits(principal, claims):
                found = {name: (value, rule) for name, value in rule.limits.items()} | found
        return found

    def _read_again(self) -> None:
        if not self._file.has_changed():
            return
        try:
            self._rules = read_rules(self._file.path)
        except SettingsError as exc:
            log.error("limits.file_unreadable", why=str(exc), hint="the rules that were read before stay in force")
        else:
            log.info("limits.file_read", rules=len(self._rules))


def read_rules(file: Path) -> Sequence[LimitRule]:
    """The rules of a file, those that decide first; of equal ones in the order of the file.

    Raises:
        SettingsError: the file cannot be read, or a rule cannot work; the message names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as exc:
        raise SettingsError(f"{file} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{file} cannot be read: it is no text in UTF-8.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{file} is no TOML: {exc}.") from exc
    except (ValueError, RecursionError) as exc:  # digits without end, brackets in brackets
        why = "a number is too long, or it is nested too deep"
        raise SettingsError(f"{file} is no TOML that can be read: {why}.") from exc
    lines = text.splitlines()
    for name in document:
        if name != "limits":
            place = _place(file, _line_of(lines, name, 0))
            raise SettingsError(f"{place}: {name!r} is not known here. Each rule begins with [[limits]].")
    entries = document.get("limits", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError(f"{file}: write [[limits]], in double brackets, above each rule.")
    heads = [at for at, line in enumerate(lines) if _HEAD.match(line)]
    rules = []
    for number, entry in enumerate(entries):
        head = heads[number] if len(heads) == len(entries) else None
        for key, fault in _faults(entry):
            place = _place(file, head if head is None else _line_of(lines, key, head), number)
            raise SettingsError(f"{place}: {fault}")
        limits = {name: value for name, value in entry.items() if name in _LIMITS}
        rules.append(
            LimitRule(None if head is None else head + 1, entry.get("principal"), entry.get("claims", {}), limits)
        )
    return sorted(rules, key=lambda rule: rule.precision, reverse=True)


def _faults(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a rule: the key, and the fault in words."""
    for name, value in entry.items():
        if name not in (*_LIMITS, "principal", "claims"):
            yield name, f"{name!r} is no limit. The limits are {', '.join(_LIMITS)}; whose they are: principal, claims."
        elif name in _LIMITS and not _is_limit(name, value):
            kind = "number" if name in _RATES else "whole number"
            yield name, f"{name} must be a {kind} from 0 (0 = no limit), not {value!r}."
    principal, claims = entry.get("principal"), entry.get("claims")
    if (principal is None) == (claims is None):
        yield "limits", "a rule is for one `principal` or for some `claims`. What all may have is in the settings."
    elif principal is not None and not (isinstance(principal, str) and PRINCIPAL.fullmatch(principal)):
        yield (
            "principal",
            "principal must be 64 hex digits, as the audit trail and `ctx.principal` have it.",
        )
    elif claims is not None and not (isinstance(claims, dict) and claims and all(map(_is_value, claims.values()))):
        yield "claims", 'claims must name claims with a text, number or truth each, such as { plan = "free" }.'
    if not any(name in _LIMITS for name in entry):
        yield "limits", f"the rule gives no limit. The limits are {', '.join(_LIMITS)}."


def _is_limit(name: str, value: object) -> bool:
    kinds = int | float if name in _RATES else int
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value <= _MOST


def _is_value(value: object) -> bool:
    return isinstance(value, str | int | float)


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or by the names on the way to it: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    first, dot, rest = name.partition(".")
    inner = claims.get(first) if dot else None
    return _claim(inner, rest) if isinstance(inner, dict) else None


def _has(found: object, wanted: object) -> bool:
    """Whether a claim is, or has among others, a value."""
    if isinstance(found, list | tuple):
        return any(_has(one, wanted) for one in found)
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def _line_of(lines: Sequence[str], key: str, head: int) -> int:
    """The index of the line on which a rule that begins at `head` sets a key; else of its first."""
    pattern = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    for at in range(head, len(lines)):
        if at > head and _HEAD.match(lines[at]):
            break
        if pattern.match(lines[at]):
            return at
    return head


def _place(file: Path, line: int | None, entry: int = 0) -> str:
    return f"{file}, rule {entry + 1}" if line is None else f"{file}, line {line + 1}"
