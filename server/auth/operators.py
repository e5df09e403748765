"""Operators: who may see and end the tasks of all callers, by tokens of their own or by scopes of the issuer.

A token is compared in constant time with each that there is. A file of tokens is read again when it changes, so that
one can be exchanged while both, the old and the new, are good.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import structlog

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.store.setting_names import setting_name

__all__ = ["Operators", "Role", "operators_of"]

log = structlog.get_logger()

_SHORTEST = 16
_Stamp = tuple[int, int, int]
_Tokens = list[tuple[bytes, frozenset["Role"]]]


class Role(StrEnum):
    """What an operator may do."""

    READ = "read"
    """See the tasks of all callers, their results, outputs and artifacts."""
    ACT = "act"
    """Cancel them and run them again as well; includes `read`."""
    METRICS = "metrics"
    """Read `/metrics`."""


class Operators:
    """The operators of a server."""

    def __init__(
        self,
        tokens: Iterable[tuple[str, Collection[Role]]] = (),
        *,
        file: Path | None = None,
        scopes: Iterable[tuple[str, Collection[Role]]] = (),
    ) -> None:
        """`tokens`: each with its roles. `file`: more of them, as lines. `scopes`: those of the issuer with roles.

        Raises:
            SettingsError: the file cannot be read.
        """
        self._fixed = [(_digest(token.encode()), _with_read(roles)) for token, roles in tokens]
        self._file = file
        self._scopes = [(scope, _with_read(roles)) for scope, roles in scopes]
        self._stamp: _Stamp | None = None
        self._of_file: _Tokens = []
        if file is not None:
            self._of_file = _read(file)
            self._stamp = _stamp_of(file)

    @property
    def has_tokens(self) -> bool:
        """Whether there are operators with tokens of their own."""
        return bool(self._fixed) or self._file is not None

    def roles_of_token(self, token: bytes) -> frozenset[Role]:
        """The roles of the caller that sends this token; empty = no operator's."""
        self._read_again()
        given = _digest(token)
        found: frozenset[Role] = frozenset()
        for expected, roles in (*self._fixed, *self._of_file):
            if hmac.compare_digest(given, expected):
                found |= roles
        return found

    def roles_of_scopes(self, granted: Collection[str]) -> frozenset[Role]:
        """The roles of a user with these scopes."""
        return frozenset().union(*(roles for scope, roles in self._scopes if scope in granted))

    def _read_again(self) -> None:
        if self._file is None or (stamp := _stamp_of(self._file)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._of_file = _read(self._file)
        except SettingsError as exc:
            log.error("operators.file_unreadable", why=str(exc), hint="the tokens that were read before stay good")
        else:
            log.info("operators.file_read", tokens=len(self._of_file))


def operators_of(settings: AuthenticationSettings, operator_token: str | None = None) -> Operators:
    """The operators that the settings name. `operator_token`: one more token, with all roles.

    Raises:
        SettingsError: an entry is malformed, or the file cannot be read.
    """
    tokens = list(_entries(settings.operator_tokens, setting_name("operator_tokens"), shortest=_SHORTEST))
    tokens += [(token, frozenset(Role)) for token in (settings.api_operator_token, operator_token) if token is not None]
    scopes = _entries(settings.operator_scopes, setting_name("operator_scopes"), shortest=1)
    return Operators(tokens, file=settings.operator_tokens_file, scopes=scopes)


def _entries(text: str, name: str, *, shortest: int) -> Iterator[tuple[str, frozenset[Role]]]:
    """`roles:word` entries, separated by blanks.

    Raises:
        SettingsError: one is malformed; its word is not shown.
    """
    for number, entry in enumerate(text.split(), 1):
        roles, colon, word = entry.partition(":")
        try:
            given = frozenset(Role(role) for role in roles.split(",")) if colon else frozenset()
        except ValueError:
            given = frozenset()
        if not given:
            raise SettingsError(
                f"{name}: entry {number} must be roles and what they are for, such as read,act:... or metrics:..., "
                f"with no blank in it. Roles are {', '.join(Role)}."
            )
        if len(word) < shortest:
            raise SettingsError(f"{name}: the token of entry {number} must have {shortest} characters or more.")
        yield word, given


def _read(file: Path) -> _Tokens:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise SettingsError(f"{setting_name('operator_tokens_file')}: {file} cannot be read: {why}.") from exc
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return [
        (_digest(token.encode()), _with_read(roles)) for token, roles in _entries(text, str(file), shortest=_SHORTEST)
    ]


def _stamp_of(file: Path) -> _Stamp | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _with_read(roles: Collection[Role]) -> frozenset[Role]:
    return frozenset(roles) | ({Role.READ} if Role.ACT in roles else frozenset())
