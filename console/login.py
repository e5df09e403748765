"""Who is logged in to the console: an operator's token, given once, becomes a sealed cookie that ends.

The cookie holds a digest of the token, so a token that is taken away takes its logins with it. It is sealed with a
secret that all replicas share, so any replica knows a login. Requests with an operator's bearer token need no login.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from starlette.requests import Request
from starlette.responses import Response

from taskmill.server.api.access import operator_roles
from taskmill.server.audit.requests import note_operator
from taskmill.server.auth.operators import Operators, Role
from taskmill.store.audit.records import Action, record
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["COOKIE", "Login", "Logins"]

COOKIE = "taskmill_console"
_NONCE = 12
_USE = b"taskmill console login"


@dataclass(frozen=True, slots=True)
class Login:
    """Who sent a request."""

    roles: frozenset[Role]
    name: str
    """As the settings call the token."""
    is_by_cookie: bool
    """Whether it can log out."""
    may_read_on: Callable[[], bool] | None = None
    """Whether it still holds, of one by cookie."""

    @property
    def may_act(self) -> bool:
        """Whether it may change anything."""
        return Role.ACT in self.roles


class Logins:
    """Makes and reads cookies for the operators of one deployment."""

    def __init__(self, operators: Operators, *, lasts: float) -> None:
        """`lasts`: seconds until an operator has to log in again."""
        self._operators = operators
        self._lasts = lasts

    @property
    def are_possible(self) -> bool:
        """Whether there is any token to log in with."""
        return self._operators.has_tokens

    async def of(self, request: Request, store: TaskStore) -> Login | None:
        """The operator who sent the request; None = no one who may read, or a login that has ended."""
        if Role.READ in (roles := operator_roles(request.scope, self._operators)):
            return Login(roles, "operator", is_by_cookie=False)
        if not (cookie := request.cookies.get(COOKIE)):
            return None
        kept = _unsealed(cookie, await store.shared_secrets())
        if kept is None or not self._holds(*kept):
            return None
        found = self._operators.of_digest(kept[0])
        note_operator(found.name, found.roles)
        may_read_on = partial(self._holds, *kept)
        return Login(found.roles, found.name or "operator", is_by_cookie=True, may_read_on=may_read_on)

    def _holds(self, digest: bytes, until: float) -> bool:
        return time.time() < until and Role.READ in self._operators.of_digest(digest).roles

    async def log_in(self, token: str, request: Request, response: Response, store: TaskStore) -> bool:
        """Put the cookie into the response, if the token is that of an operator who may read."""
        given = token.strip().encode("utf-8", "replace")
        found = self._operators.of_token(given)
        if Role.READ not in found.roles:
            return False
        note_operator(found.name, found.roles)
        record(Action.LOGGED_IN)
        until = time.time() + self._lasts
        facts = json.dumps({"digest": self._operators.digest_of(given).hex(), "until": until}).encode()
        response.set_cookie(
            COOKIE,
            _sealed(facts, (await store.shared_secrets())[0]),
            max_age=int(self._lasts),
            path=_path(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return True

    def log_out(self, request: Request, response: Response) -> None:
        """Take the cookie away."""
        record(Action.LOGGED_OUT)
        response.delete_cookie(COOKIE, path=_path(request))


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"


def _key(secret: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=_USE).derive(secret))


def _sealed(facts: bytes, secret: bytes) -> str:
    nonce = secrets.token_bytes(_NONCE)
    return base64.urlsafe_b64encode(nonce + _key(secret).encrypt(nonce, facts, _USE)).decode()


def _unsealed(cookie: str, shared: tuple[bytes, ...]) -> tuple[bytes, float] | None:
    """The digest of a login, and when it ends, in seconds since 1970."""
    try:
        given = base64.urlsafe_b64decode(cookie)
    except ValueError:
        return None
    for secret in shared:
        try:
            facts = json.loads(_key(secret).decrypt(given[:_NONCE], given[_NONCE:], _USE))
        except (InvalidTag, ValueError):
            continue
        return bytes.fromhex(facts["digest"]), float(facts["until"])
    return None
