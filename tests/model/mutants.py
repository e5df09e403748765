"""The protocol broken in one place at a time: in the model, in the text of the real scripts, or in both.

A patch that no longer fits its script raises when it is applied: say the same fault in the script's new words. A fault
that cannot be seen by anybody carries the reason; the model's search proves it, and the state machine must agree.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from taskmill.store import scripts
from tests.model.failovers import Failovers, Limits
from tests.model.protocol import Bounds, Protocol
from tests.model.search import Findings, search

__all__ = ["MUTANTS", "Mutant", "broken_scripts"]


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    name: str
    in_model: bool
    """A model knows the fault by this name."""
    patches: tuple[tuple[str, str, str], ...] = ()
    """Script, text, what to write instead; each text stands there once."""
    harmless: str = ""
    """Why nobody could tell; empty for a fault that must be caught."""
    after_failover: bool = False
    """It shows after a failover only: in the model of those, and to nobody who has none."""

    def searched(self) -> Findings:
        """What the search of its model finds."""
        broken = frozenset({self.name})
        return search(Failovers(Limits(), broken) if self.after_failover else Protocol(Bounds(), broken))


MUTANTS = (
    # Fences.
    Mutant("no fence check", True, (("prelude", "return task.fence == fence and is_legal(", "return is_legal("),)),
    Mutant("finish without fence check", True, (("prelude", "not owns(task, fence, move)", "not owns(task, task.fence, move)"),)),
    Mutant("renew without fence check", True, (("renew", "owns(task, fence, ", "owns(task, task.fence, "),)),
    Mutant("progress without fence check", True, (("progress", "owns(task, ARGV[i + 1], ", "owns(task, task.fence, "),)),
    Mutant("ask without fence check", True, (("ask", "owns(task, ARGV[2], ", "owns(task, task.fence, "),)),
    Mutant("release without fence check", True, (("release", "owns(task, ARGV[2], ", "owns(task, task.fence, "),)),
    Mutant("claim without fence", True, (("claim", "local fence, attempt = next_fence(task.fence)", "local fence, attempt = task.fence"),)),
    Mutant("cancel without fence", True, (("cancel", "{ 'fence', digits(next_fence(task.fence)),", "{ 'fence', task.fence,"),)),
    Mutant("turn without owner", True, (("claim", "task.worker == worker and is_legal('release'", "is_legal('release'"),)),
    # States.
    Mutant("no state check", True, (("prelude", "return task.fence == fence and is_legal(move, task.status)", "return task.fence == fence"),)),
    Mutant("finish without state check", True, (("prelude", "not owns(task, fence, move)", "task.fence ~= fence"),)),
    Mutant("renew without state check", True, (("renew", "owns(task, fence, 'progress')", "task.fence == fence"),)),
    Mutant("progress without state check", True, (("progress", "not owns(task, ARGV[i + 1], 'progress')", "task.fence ~= ARGV[i + 1]"),)),
    Mutant("ask without state check", True, (("ask", "not owns(task, ARGV[2], 'ask')", "task.fence ~= ARGV[2]"),)),
    Mutant("release without state check", True, (("release", "not owns(task, ARGV[2], 'release')", "task.fence ~= ARGV[2]"),)),
    Mutant("cancel ends what has ended", True, (("cancel", "not is_legal('cancel', task.status)", "not task.status"),)),
    Mutant("claim without state check", True, (("claim", "if not lapsed and not is_legal('claim', task.status) then", "if not task.status then"),)),
    Mutant("resume without state check", True, (("answer", "open == 0 and is_legal('resume', task.status)", "open == 0"),)),
    Mutant(
        "answer without state check",
        True,
        (("answer", "if not is_legal('answer', task.status) then", "if not task.status then"),),
        harmless="the script that ends a task deletes its questions, so there is nothing left to answer",
    ),
    # Leases and the queue.
    Mutant("no lease move", True, (("claim", "redis.call('ZADD', queue, unpack(leases))", ""),)),
    Mutant("renew moves no lease", True, (("renew", "redis.call('ZADD', K.queue(task.queue), now + lease, id)", ""),)),
    Mutant("reconcile makes running tasks due", True, (("reconcile", "now + tonumber(ARGV[3])", "precise"),)),
    Mutant("park without fence", True, (("park", "{ 'fence', digits(next_fence(task.fence)) }", "{ 'fence', task.fence }"),)),
    Mutant("park leaves its place", False, (("park", "  redis.call('ZADD', K.queue(task.queue), parked_until(task), id)\n", ""),)),
    Mutant("wake does not queue", False, (("answer", "  requeue(id, now, now)\n", ""),)),
    Mutant("release does not queue", False, (("release", "requeue(id, precise + delay, precise)", ""),)),
    Mutant("an end leaves the queue entry", False, (("prelude", "  remove_later(K.queue(task.queue), id)\n", ""),)),
    Mutant("an end leaves the quota", False, (("prelude", "  remove_later(K.open(task.principal), id)\n", ""),)),
    Mutant("an end leaves questions and lease", False, (("prelude", "deletions[#deletions + 1] = K.inputs(id)", ""), ("prelude", "= K.journal(id), K.job(id), K.in_progress(id), K.retry(id)", "= 'x', 'x', 'x', 'x'"),)),
    Mutant("an end expires nothing", False, (("prelude", "  redis.call('PEXPIRE', K.record(id), kept)\n", ""),)),
    # Replies and repeats.
    Mutant("finish without idempotence", True, (("prelude", "return same and redis.call('GET', K.result(id)) == outcome and 'already' or 'lost'", "return 'lost'"),)),
    Mutant("already without fence", True, (("prelude", "local same = task.fence == fence and task.status", "local same = task.status"),)),
    Mutant("already without outcome", True, (("prelude", "local same = task.fence == fence and task.status == TO[move]\n    return same and redis.call('GET', K.result(id)) == outcome and", "local same = task.fence == fence\n    return same and"),)),
    Mutant("a turn is not remembered", False, (("claim", "redis.call('SET', KEYS[1], batch_id .. ' ' .. table.concat(ids, ' '), 'PX', room == 0 and REVOKED_FOR or lease)", ""),)),
    Mutant("a creation said again makes another", False, (("create", "if length > 1 then", "if false then"),)),
    Mutant("crashes are not counted", False, (("claim", "(lapsed and 1 or 0)", "0"),)),
    Mutant("an answer is taken twice", False, (("answer", "redis.call('HDEL', KEYS[1], question)", ""), ("answer", "redis.call('HSETNX', KEYS[1], 'a:' .. ARGV[i], ARGV[i + 1]) == 1", "redis.call('HSET', KEYS[1], 'a:' .. ARGV[i], ARGV[i + 1])"))),
    Mutant("a question changes on the way", False, (("ask", "if known and known ~= ARGV[i + 1] then", "if false then"),)),
    Mutant("time runs backwards", False, (("prelude", "return math.max(now, tonumber(task.updated_ms or 0))", "return now - 1000 * (task.seq or 0)"),)),
    Mutant("an event is skipped", False, (("prelude", "(task.seq or 0) + 1", "(task.seq or 0) + (move == 'release' and 2 or 1)"),)),
    Mutant("a report that says nothing new", False, (("progress", "elseif (task.done or '') ~= done or (task.total or '') ~= total or (task.message or '') ~= message then", "else"),)),
    # Failovers.
    Mutant("no floor after a failover", True, (("prelude", "known_floor = known_floor or lowest_fence()", "known_floor = 0"),), after_failover=True),
    Mutant("a promotion looks like a new Redis", True, (("prelude", "local is_new = not known[1] and info:find('master_replid2:0000000000', 1, true)", "local is_new = not known[1]"),), after_failover=True),
    Mutant("floors are counted", True, (("prelude", "math.max(clock(), (known[2] or 0) + 1000000)", "(known[2] or 0) + 1000000"),), after_failover=True),
    Mutant("floors follow the clock alone", True, (("prelude", "math.max(clock(), (known[2] or 0) + 1000000)", "clock()"),), after_failover=True),
)  # fmt: skip


@contextmanager
def broken_scripts(mutant: Mutant, folder: Path) -> Iterator[None]:
    """Every store made inside loads scripts with the fault in them; `folder` is where they are written."""
    lua = folder / "lua"
    lua.mkdir()
    for source in (resources.files("taskmill.store") / "lua").iterdir():
        (lua / source.name).write_text(source.read_text())
    for script, old, new in mutant.patches:
        text = (lua / f"{script}.lua").read_text()
        assert text.count(old) == 1, f"{mutant.name}: {script}.lua says {old!r} {text.count(old)} times; patch it anew"
        (lua / f"{script}.lua").write_text(text.replace(old, new))
    files: Any = SimpleNamespace(files=lambda _package: folder)
    with mock.patch.object(scripts, "resources", files):
        yield
