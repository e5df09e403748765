"""Operators: who may see and end the tasks of all callers, by tokens of their own or by scopes of the issuer.

A token is compared in constant time with each that there is. A file of tokens is read again when it changes, so that
one can be exchanged while both, the old and the new, are good.
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.server.changing_file import ChangingFile
from taskmill.store.setting_names import setting_name

__all__ = ["NO_OPERATOR", "Operator", "Operators", "Role", "operators_of"]

log = structlog.get_logger()

_SHORTEST = 16
_Tokens = list[tuple[bytes, "Operator"]]
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


class Role(StrEnum):
    """What an operator may do."""

    READ = "read"
    """See the tasks of all callers, their results, outputs and artifacts."""
    ACT = "act"
    """Cancel them and run them again as well; includes `read`."""
    METRICS = "metrics"
    """Read `/metrics`."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The sender of a request with an operator's token."""

    name: str | None
    """As the settings call it; else which token of which setting it is. None = there is none."""
    roles: frozenset[Role]
    """What it may do; empty = it is no operator."""

    def joined(self, other: "Operator") -> "Operator":
        """The operator who has the tokens of both."""
        return Operator(self.name or other.name, self.roles | other.roles)


NO_OPERATOR = Operator(None, frozenset())


class Operators:
    """The operators of a server."""

    def __init__(
        self,
        tokens: Iterable[tuple[str, str, Collection[Role]]] = (),
        *,
        file: Path | None = None,
        scopes: Iterable[tuple[str, Collection[Role]]] = (),
    ) -> None:
        """`tokens`: each with name and roles. `file`: more of them, as lines. `scopes`: those of the issuer with roles.

        Raises:
            SettingsError: the file cannot be read.
        """
        self._fixed = _digested(tokens)
        self._file = None if file is None else ChangingFile(file)
        self._scopes = [(scope, _with_read(roles)) for scope, roles in scopes]
        self._of_file: _Tokens = [] if file is None else _read(file)

    @property
    def has_tokens(self) -> bool:
        """Whether there are operators with tokens of their own."""
        return bool(self._fixed) or self._file is not None

    def of_token(self, token: bytes) -> Operator:
        """The operator whose token this is; one without roles if it is no operator's."""
        return self.of_digest(_digest(token))

    @staticmethod
    def digest_of(token: bytes) -> bytes:
        """What a login keeps of a token."""
        return _digest(token)

    def of_digest(self, given: bytes) -> Operator:
        """The operator whose token has this digest; one without roles if none has it any more."""
        self._read_again()
        found = NO_OPERATOR
        for expected, operator in (*self._fixed, *self._of_file):
            if hmac.compare_digest(given, expected):
                found = found.joined(operator)
        return found

    def roles_of_scopes(self, granted: Collection[str]) -> frozenset[Role]:
        """The roles of a user with these scopes."""
        return frozenset().union(*(roles for scope, roles in self._scopes if scope in granted))

    def _read_again(self) -> None:
        if self._file is None or not self._file.has_changed():
            return
        try:
            self._of_file = _read(self._file.path)
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
    alone = (settings.api_operator_token, operator_token)
    tokens += [("operator", token, frozenset(Role)) for token in alone if token is not None]
    named = _entries(settings.operator_scopes, setting_name("operator_scopes"), shortest=1)
    scopes = [(scope, roles) for _, scope, roles in named]
    return Operators(tokens, file=settings.operator_tokens_file, scopes=scopes)


def _entries(
    text: str, name: str, *, shortest: int, unnamed: str = "token"
) -> Iterator[tuple[str, str, frozenset[Role]]]:
    """`roles:word` or `name=roles:word` entries, separated by blanks: name, word and roles of each.

    `unnamed`: what one without a name is called, with its number behind.

    Raises:
        SettingsError: one is malformed; its word is not shown.
    """
    for number, entry in enumerate(text.split(), 1):
        roles, colon, word = entry.partition(":")
        title, equals, behind = roles.partition("=")
        if equals and _NAME.fullmatch(title):
            roles = behind
        try:
            given = frozenset(Role(role) for role in roles.split(",")) if colon else frozenset()
        except ValueError:
            given = frozenset()
        if not given:
            raise SettingsError(
                f"{name}: entry {number} must be roles and what they are for, such as read,act:... or alice=read:..., "
                f"with no blank in it. Roles are {', '.join(Role)}."
            )
        if len(word) < shortest:
            raise SettingsError(f"{name}: the token of entry {number} must have {shortest} characters or more.")
        yield title if equals else f"{unnamed}-{number}", word, given


def _read(file: Path) -> _Tokens:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise SettingsError(f"{setting_name('operator_tokens_file')}: {file} cannot be read: {why}.") from exc
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return _digested(_entries(text, str(file), shortest=_SHORTEST, unnamed="file-token"))


def _digested(tokens: Iterable[tuple[str, str, Collection[Role]]]) -> _Tokens:
    return [(_digest(token.encode()), Operator(name, _with_read(roles))) for name, token, roles in tokens]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _with_read(roles: Collection[Role]) -> frozenset[Role]:
    return frozenset(roles) | ({Role.READ} if Role.ACT in roles else frozenset())
