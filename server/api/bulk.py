"""Cancelling and repeating many tasks: first a count, with a token for a confirmation; then page after page by tokens.

A token is signed, and says what is done to which tasks. It is about tasks that were there when they were counted, so
that none is touched that no one has seen; each page gives the token of the next, and a page that is sent again does
nothing twice.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from taskmill.engine.errors import BadArguments, CallerError, DecryptionFailed, SealKeyAwaited
from taskmill.engine.outcome import OutcomeKind
from taskmill.engine.status import TERMINAL, Status
from taskmill.store.audit.records import Action, Outcome, record
from taskmill.store.formats.filters import TaskFilter, filter_of
from taskmill.store.formats.paging import MOST_PARTS
from taskmill.store.tasks.tasks import OPERATOR, TaskStore

__all__ = ["Bulk", "BulkAction"]

Json = dict[str, Any]
_PAGE = 100
_VALID_MS = 3_600_000
_MAC = 16
_LONGEST_TOKEN = 8000
_BAD_TOKEN = "This token is not good, or older than an hour. Count the tasks again, and send the token of the reply."  # noqa: S105
_SAY_ALL = 'This is about every task. Give a filter in "where", or say so with "all": true.'
_REPEATABLE = frozenset(OutcomeKind) - {OutcomeKind.SUCCEEDED}


class BulkAction(StrEnum):
    """What can be done to many tasks."""

    CANCEL = "cancel"
    RERUN = "rerun"


class Bulk:
    """For operators."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def count(self, action: str, where: Mapping[str, object], *, every: bool = False) -> Json:
        """How many tasks there are to cancel or repeat, and the token that `run` takes: nothing is done yet.

        `where`: the words of a filter. `every`: it may be about all tasks.

        Raises:
            BadArguments: there is no such action or filter, or it is about all tasks and does not say so.
        """
        if action not in list(BulkAction):
            raise BadArguments(f"action must be one of {', '.join(BulkAction)}.")
        wanted = filter_of(where)
        if wanted.is_empty and not every:
            raise BadArguments(_SAY_ALL)
        now = await self._store.now_ms()
        until = now + 1 if wanted.until_ms is None else min(wanted.until_ms, now + 1)
        wanted = replace(wanted, until_ms=until)
        narrowed = _narrowed(BulkAction(action), wanted)
        count = 0 if narrowed is None else await self._store.count(narrowed)
        token = await self._token({"action": action, "where": wanted.as_words(), "cursor": None}, now)
        return {"action": action, "where": filter_of(where).as_words(), "count": count, "token": token}

    async def run(self, token: str) -> Json:
        """Do it to a page of the tasks: how many were `done`, which `failed` and why, and the token of the next page.

        Raises:
            BadArguments: the token is none of ours, or too old.
        """
        given = await self._opened(token)
        action, wanted = BulkAction(given["action"]), filter_of(given["where"])
        narrowed = _narrowed(action, wanted)
        if narrowed is None:
            return {"action": action, "done": 0, "failed": [], "token": None}
        page = await self._store.page(OPERATOR, after=given["cursor"], where=narrowed, limit=_PAGE, reads=MOST_PARTS)
        done, failed = 0, []
        for view in page.views:
            try:
                done += await self._do(action, view.record.id)
            except SealKeyAwaited:
                raise
            # It has ended or expired meanwhile, its owner has too many open tasks, or its arguments cannot be read.
            except (CallerError, DecryptionFailed) as exc:
                failed.append({"id": view.record.id, "message": str(exc)})
        _record(action, done, len(failed), narrowed)
        following = None
        if page.next is not None:
            following = await self._token({**given, "cursor": page.next}, await self._store.now_ms())
        return {"action": action, "done": done, "failed": failed, "token": following}

    async def _do(self, action: BulkAction, task_id: str) -> bool:
        if action is BulkAction.CANCEL:
            return await self._store.cancel(task_id, OPERATOR, reason="operator")
        await self._store.rerun(task_id, OPERATOR, once="bulk")
        return True

    async def _token(self, content: Json, now: int) -> str:
        packed = json.dumps({**content, "at": now}, separators=(",", ":")).encode()
        signed = _mac((await self._store.shared_secrets())[0], packed) + packed
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")

    async def _opened(self, token: str) -> Json:
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise BadArguments(_BAD_TOKEN)
        try:
            signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadArguments(_BAD_TOKEN) from None
        mac, packed = signed[:_MAC], signed[_MAC:]
        if not any(hmac.compare_digest(mac, _mac(one, packed)) for one in await self._store.shared_secrets()):
            raise BadArguments(_BAD_TOKEN)
        content: Json = json.loads(packed)
        if content["at"] + _VALID_MS < await self._store.now_ms():
            raise BadArguments(_BAD_TOKEN)
        return content


def _record(action: BulkAction, done: int, failed: int, wanted: TaskFilter) -> None:
    target = " ".join(f"{name}={word}" for name, word in wanted.as_words().items() if name != "text")
    name = Action.TASKS_CANCELLED if action is BulkAction.CANCEL else Action.TASKS_RERUN
    outcome = Outcome.OK if done else Outcome.FAILED if failed else Outcome.UNCHANGED
    record(name, outcome=outcome, target=target, count=done)


def _mac(secret: bytes, packed: bytes) -> bytes:
    return hmac.digest(secret, b"bulk\0" + packed, hashlib.sha256)[:_MAC]


def _narrowed(action: BulkAction, wanted: TaskFilter) -> TaskFilter | None:
    """Those of the wanted tasks to which it can be done; None = there can be none."""
    if action is BulkAction.CANCEL:
        statuses = frozenset(wanted.statuses or Status) - TERMINAL
        return replace(wanted, statuses=statuses) if statuses else None
    outcomes = frozenset(wanted.outcomes or OutcomeKind) & _REPEATABLE
    return replace(wanted, outcomes=outcomes, is_not_rerun=True) if outcomes else None
