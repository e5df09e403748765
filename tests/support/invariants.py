"""What must hold of every task in Redis, whatever happened to it: invariants read from the keys.

It looks at Redis itself, by no script of the product; only its `fold` and its reading of records are used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import IllegalMove
from taskmill.engine.events import FINISHING, Event
from taskmill.engine.lifecycle import apply, fold
from taskmill.engine.record import TaskRecord
from taskmill.engine.status import Move, Status
from taskmill.store.formats.events import event_of
from taskmill.store.formats.keys import UNEXPIRING, Keys
from taskmill.store.formats.records import record_of

__all__ = ["Checker", "Found", "broken_promises", "is_parked", "read_redis"]

_CLAIMS = (Move.CLAIM, Move.RECLAIM)
_OF_OPEN_TASKS = ("inputs", "journal", "job", "in_progress", "retry")
"""Keys that an ended task no longer has."""


def is_parked(record: TaskRecord) -> bool:
    """True while the task waits for answers and no worker has it in memory."""
    return record.status is Status.INPUT_REQUIRED and record.worker is None


@dataclass
class Found:
    """Everything in Redis under one prefix: values and times to live by key."""

    keys: Keys
    values: dict[str, Any] = field(default_factory=dict)
    ttls: dict[str, int] = field(default_factory=dict)
    """Milliseconds, -1 = none."""
    _records: dict[str, tuple[Any, TaskRecord]] = field(default_factory=dict, repr=False)

    @property
    def lasting(self) -> dict[str, Any]:
        """The values without what passes by itself: wake tokens, the pace of lines, the mark of who repairs."""
        passing = (self.keys.wake(""), self.keys.newcomer(""), self.keys.ordering(""), self.keys.reconciling)
        return {key: value for key, value in self.values.items() if not key.startswith(passing)}

    def ids(self) -> list[str]:
        """Every task there is a record of."""
        stem = self.keys.record("")
        return [key.removeprefix(stem) for key in self.values if key.startswith(stem)]

    def record(self, task_id: str) -> TaskRecord:
        """The stored record."""
        stored = self.values[self.keys.record(task_id)]
        known = self._records.get(task_id)
        if known is None or known[0] != stored:
            record = record_of(task_id, {name.decode(): value.decode() for name, value in stored.items()})
            known = self._records[task_id] = (dict(stored), record)
        return known[1]

    def events(self, task_id: str) -> list[Event]:
        """The stored history."""
        return [event_of(task_id, entry) for entry in self.values.get(self.keys.events(task_id), [])]

    def members(self, key: str) -> dict[str, float]:
        """A sorted set, lowest score first."""
        return {member.decode(): score for member, score in self.values.get(key, [])}


async def read_redis(redis: Redis, prefix: str | Keys = "taskmill", *, chunk: int | None = None) -> Found:
    """All of Redis at one moment; in `chunk` keys at a time when it is large and at rest.

    `prefix`: or the keys of the deployment. Of a node of a cluster only these are read.
    """
    found = Found(prefix if isinstance(prefix, Keys) else Keys(prefix))
    names = await redis.keys("*") if chunk else []
    for first in range(0, len(names), chunk or 1):
        _add(found, await redis.eval(_READ, 0, *names[first : first + (chunk or 1)]))
    if not chunk:
        _add(found, await redis.eval(_READ, 0))
    if found.keys.in_cluster:
        for values in (found.values, found.ttls):
            for key in [key for key in values if not key.startswith(found.keys.root)]:
                del values[key]
    return found


def _add(found: Found, entries: list[tuple[bytes, bytes, Any, int]]) -> None:
    for key, kind, value, ttl in sorted(entries, key=itemgetter(0)):
        name = key.decode()
        found.values[name], found.ttls[name] = _SHAPES.get(kind, bytes)(value), ttl


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


_SHAPES: dict[bytes, Callable[[Any], Any]] = {
    b"hash": lambda value: dict(_pairs(value)),
    b"stream": lambda value: [(entry_id, dict(_pairs(facts))) for entry_id, facts in value],
    b"zset": lambda value: [(member, float(score)) for member, score in _pairs(value)],
    b"set": set,
    b"list": list,
}
_READ = """
local found = {}
for _, key in ipairs(#ARGV > 0 and ARGV or redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, false
  if kind == 'hash' then
    value = redis.call('HGETALL', key)
  elseif kind == 'stream' then
    value = redis.call('XRANGE', key, '-', '+')
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', key)
  elseif kind == 'list' then
    value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'string' then
    value = redis.call('GET', key)
  end
  if kind ~= 'none' then -- it has expired since it was listed
    found[#found + 1] = { key, kind, value, redis.call('PTTL', key) }
  end
end
return found
"""
"""What is stored under the keys that are given, or under all; one command for each would cost more."""


def broken_promises(found: Found, *, unreachable: frozenset[str] = frozenset()) -> list[str]:
    """Every invariant that does not hold, in words; [] when all do.

    `unreachable`: open tasks whose queue entry or job a test took away and that no reconcile has seen since, and ended
    tasks that it put into the queue.
    """
    return Checker().broken(found, unreachable)


class Checker:
    """Checks one Redis again and again; a history that has not changed since it was sound is not read again."""

    def __init__(self) -> None:
        self._sound: dict[str, tuple[Any, Any]] = {}

    def broken(self, found: Found, unreachable: frozenset[str] = frozenset()) -> list[str]:
        """See `broken_promises`."""
        problems = [f"{task_id}: {problem}" for task_id in found.ids() for problem in self._of_history(found, task_id)]
        for task_id in found.ids():
            problems += [f"{task_id}: {problem}" for problem in _of_rest(found, task_id, task_id in unreachable)]
        problems += _of_lanes(found, unreachable)
        return [*problems, *_of_sets(found), *_of_lists(found), *_of_lifetimes(found), *_of_outputs(found)]

    def _of_history(self, found: Found, task_id: str) -> list[str]:
        stored = (found.values[found.keys.record(task_id)], found.values.get(found.keys.events(task_id)))
        if self._sound.get(task_id) == stored:
            return []
        problems = list(_of_history(found, task_id))
        if not problems:
            self._sound[task_id] = stored
        return problems


def _of_history(found: Found, task_id: str) -> Iterator[str]:
    record, events = found.record(task_id), found.events(task_id)
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield f"I1: events are numbered {[event.seq for event in events]}"
    if not events or events[0].move is not Move.CREATE:
        yield "I2: the first event is no creation"
    ends = [event.seq for event in events if event.move in FINISHING]
    if ends != ([len(events)] if record.is_terminal else []):
        yield f"I3: {record.status} after {len(events)} events, ended by {ends}"
    yield from _of_fences(record, events)
    try:
        if (folded := fold(events)) != record:
            yield f"I4: the record {record} is not the fold of its events {folded}"
    except IllegalMove as impossible:
        yield f"I4: {impossible}"
        return
    yield from _of_changes(events)


def _of_fences(record: TaskRecord, events: list[Event]) -> Iterator[str]:
    fences = [event.facts["fence"] for event in events if "fence" in event.facts]
    if fences != sorted(set(fences)):
        yield f"I5: fences {fences}"
    claimed = [event.facts.get("fence") for event in events if event.move in _CLAIMS][-1:]
    by_worker = record.status in (Status.COMPLETED, Status.FAILED) and record.reason != "deadline"
    if by_worker and [record.fence] != claimed:
        yield f"I6: ended under fence {record.fence}, claimed last under {claimed}"
    held = False
    for event in events:
        if event.move is Move.CLAIM and held:
            yield f"I7: event {event.seq} claims what is claimed"
        held = event.move in _CLAIMS or (held and event.move not in (Move.RELEASE, Move.PARK))


def _of_changes(events: list[Event]) -> Iterator[str]:
    before: TaskRecord | None = None
    for event in events:
        after = apply(before, event)
        if before is not None and replace(after, seq=before.seq, updated_ms=before.updated_ms) == before:
            yield f"I14: event {event.seq}, {event.move}, changed nothing"
        before = after


def _of_rest(found: Found, task_id: str, unreachable: bool) -> Iterator[str]:
    """I10: ended tasks leave no queue, lease or payload; open ones can be reached."""
    keys, record = found.keys, found.record(task_id)
    in_sets = {
        "live": task_id in found.members(keys.live),
        "open": task_id in found.members(keys.open(record.principal)),
        "queue": task_id in found.members(keys.queue(record.queue)) or _waits_outside(found, record),
        "job": keys.job(task_id) in found.values,
    }
    if record.is_terminal:
        left = [name for name, there in in_sets.items() if there and not (unreachable and name == "queue")]
        left += [name for name in _OF_OPEN_TASKS if _key(keys, name, task_id) in found.values]
        if left:
            yield f"I10: {record.status} and still in {left}"
        if record.status is Status.COMPLETED and record.reason is None and keys.args(task_id) in found.values:
            yield "I10: succeeded, and its arguments are still there"
        for name in ("record", "events", "result", "args"):
            if not 0 <= found.ttls.get(_key(keys, name, task_id), 0) <= record.retention_ms:
                yield f"I10: the {name} of an ended task expires in {found.ttls[_key(keys, name, task_id)]} ms"
        return
    missing = [name for name, there in in_sets.items() if not there and not (unreachable and name in ("queue", "job"))]
    if missing:
        yield f"I10: {record.status} and not in {missing}"
    if keys.result(task_id) in found.values:
        yield f"I3: {record.status} and has a result"
    if record.status is Status.PENDING and keys.in_progress(task_id) in found.values and not unreachable:
        yield "I10: pending and marked as in progress"
    if is_parked(record) and keys.in_progress(task_id) in found.values:
        yield "I10: parked and marked as in progress"


def _waits_outside(found: Found, record: TaskRecord) -> bool:
    return record.lane is not None and record.id in found.members(found.keys.lane_queue(record.lane))


def _of_lanes(found: Found, unreachable: frozenset[str]) -> Iterator[str]:
    """A lane is never over its limit, has no task that has ended, and no task waits for a slot that is free."""
    records = {task_id: found.record(task_id) for task_id in found.ids()}
    for lane in {record.lane for record in records.values() if record.lane}:
        inside, waiting = found.members(found.keys.lane(lane)), list(found.members(found.keys.lane_queue(lane)))
        if set(inside) & set(waiting):
            yield f"I10: {set(inside) & set(waiting)} are in lane {lane} and wait for it"
        if left := [task_id for task_id in [*inside, *waiting] if records[task_id].is_terminal]:
            yield f"I10: {left} have ended and are still at lane {lane}"
        if waiting and len(inside) < (records[waiting[0]].lane_limit or 0):
            yield f"I10: {waiting[0]} waits for lane {lane}, which has {len(inside)} tasks"
        mine = [record for record in records.values() if record.lane == lane]
        if len(inside) > max(record.lane_limit or 0 for record in mine):
            yield f"lane {lane} has {len(inside)} tasks"
        for record in mine:
            runs = record.worker is not None and not record.is_terminal and "start" not in (record.rate or "")
            if runs and record.id not in {*inside, *unreachable}:
                yield f"{record.id} runs outside its lane"
            if record.id in waiting and record.id in found.members(found.keys.queue(record.queue)):
                yield f"{record.id} is queued and waits for its lane"


def _key(keys: Keys, family: str, task_id: str) -> str:
    if family == "retry":
        return f"arq:retry:{task_id}"
    return str(getattr(keys, family)(task_id))


def _of_sets(found: Found) -> Iterator[str]:
    """I11: the counters behind the quotas are a recount, and no queue holds what is not a task."""
    records = [found.record(task_id) for task_id in found.ids()]
    owners: dict[str, set[str]] = {}
    for record in records:
        if not record.is_terminal:
            owners.setdefault(found.keys.open(record.principal), set()).add(record.id)
    live = {task_id for ids in owners.values() for task_id in ids}
    if set(found.members(found.keys.live)) != live:
        yield f"I11: live holds {set(found.members(found.keys.live))}, open are {live}"
    for key in (key for key in found.values if key.startswith(found.keys.open(""))):
        if set(found.members(key)) != owners.get(key, set()):
            yield f"I11: {key} holds {set(found.members(key))}, open are {owners.get(key)}"


def _of_lists(found: Found) -> Iterator[str]:
    """Every task is in the list of all and in its owner's; expired tasks, and ended ones only, are to be taken off."""
    everything, fading = found.members(found.keys.all), found.members(found.keys.fading)
    dead = found.members(found.keys.dead)
    lists: dict[str, set[str]] = {}
    for task_id in found.ids():
        record = found.record(task_id)
        list_owner = found.values[found.keys.record(task_id)].get(b"listed_for", b"").decode()
        entry = f"{task_id} {list_owner}".rstrip()
        if list_owner:
            lists.setdefault(found.keys.list(list_owner), set()).add(task_id)
        if task_id not in everything:
            yield f"{task_id}: not in the list of all tasks"
        rerun = b"rerun_as" in found.values[found.keys.record(task_id)]
        broke = record.status in (Status.COMPLETED, Status.FAILED) and record.reason not in (None, "tool_error")
        if (task_id in dead) != (broke and not rerun):
            yield f"{task_id}: {record.status} for {record.reason}, and {'' if task_id in dead else 'no '}dead letter"
        if (entry in fading) != record.is_terminal:
            yield f"{task_id}: {record.status}, and to be forgotten at {fading.get(entry)}"
    faded = {entry.split(" ")[0] for entry in fading}
    if left := set(dead) - set(found.ids()) - faded:
        yield f"{left} are dead letters for ever"
    for key in (key for key in found.values if key.startswith((found.keys.all, found.keys.list("")))):
        members = set(found.members(key))
        if left := members - set(found.ids()) - faded:
            yield f"{key} keeps {left} for ever"
        if key != found.keys.all and members & set(found.ids()) != lists.get(key, set()):
            yield f"{key} holds {members}, to be listed are {lists.get(key)}"
    if missing := lists.keys() - found.values.keys():
        yield f"no {missing}"


def _of_lifetimes(found: Found) -> Iterator[str]:
    """Every key expires, or is of a family that may stay while its task is open."""
    for key, ttl in found.ttls.items():
        if ttl == -1 and not key.removeprefix(found.keys.root).startswith(UNEXPIRING):
            yield f"I10: {key} never expires"
        if ttl == -1 and key.startswith(f"{found.keys.root}once:"):
            named = found.keys.record(found.values[key].decode().split(" ")[0])
            if found.ttls.get(named, 0) != -1:
                yield f"I10: {key} never expires, but its task does"


def _of_outputs(found: Found) -> Iterator[str]:
    """Output and artifacts last exactly as long as their task may be read."""
    keys = found.keys
    for task_id in found.ids():
        record = found.record(task_id)
        artifacts = [name.decode() for name in found.values.get(keys.artifacts(task_id), ())]
        names = [keys.output(task_id), keys.artifacts(task_id)]
        names += [key(artifact) for artifact in artifacts for key in (keys.artifact, keys.blob)]
        for name in names:
            ttl = found.ttls.get(name, -2)
            if ttl != -2 and (0 <= ttl <= record.retention_ms) is not record.is_terminal:
                yield f"I10: {name} of a task that is {record.status} expires in {ttl} ms"
        for artifact, moment in found.members(keys.outside).items():
            if artifact in artifacts and (moment == float("inf")) is record.is_terminal:
                yield f"I10: the bytes of {artifact} of a task that is {record.status} go at {moment}"
