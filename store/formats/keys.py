"""Every Redis key and channel, built in one place, also for the scripts. The table has one row a family.

P is `{<prefix>}:`; the braces are a hash tag. In a cluster arq's keys begin with P, too, so that all are in one slot;
what stands in the braces for a part of a cluster, `cluster_address.py` says. Keys marked "live" have no TTL while their
task is open and are deleted, or given the task's retention as TTL, by the script that ends it; the others marked "none"
are bounded and shared. Writers are scripts and shared functions of `lua/`, or parts of the program; "all that move
tasks" are create, claim, renew, release, park, answer, settle and reconcile.

| key | type | TTL | writer |
| --- | --- | --- | --- |
| P task:<id> | hash: the record | live, then retention | create, and every move |
| P events:<id> | list: history, an event an entry, packed | live, then retention | every move |
| P args:<id> | string: arguments, maybe sealed | live, then retention; deleted when the task succeeds | create |
| P inputs:<id> | hash: questions `q:`, their digests `d:`, answers `a:` | live, deleted at the end | ask, answer |
| P journal:<id> | hash: results of steps by mark, `state`, maybe sealed | live, deleted at the end | save_journal |
| P errors:<id> | hash: why attempts failed, by number, ten at most, maybe sealed | live, then retention | save_error |
| P result:<id> | string: outcome, maybe sealed | retention | finish |
| P output:<id> | stream: what the tool emitted, ids `n-0`, maybe sealed | live, then retention | append_output |
| P artifacts:<id> | set: ids of the task's artifacts | live, then retention | attach |
| P artifact:<artifact> | hash: task, owner; name, size..., maybe sealed as `facts` | live, then retention | attach |
| P blob:<artifact> | string: a small artifact's bytes | live (a day before attach), then retention | worker |
| P outside | zset: artifacts in directory or bucket by when they may go, ms | none | worker, attach, settle |
| P audit | stream: the audit trail, a record an entry, of bounded length | its retention | servers, commands |
| P layout | string: number of the layout of all that is stored | none | the first process |
| P live | zset: open task ids by creation | none | create, settle |
| P all | zset: every task by creation, for operators | none (gone if empty) | create, purge_expired, page |
| P list:<owner> | zset: tasks that it may list, by creation | none (gone if empty) | create, purge_expired, page |
| P dead | zset: tasks that broke for good, by their end | none (gone if empty) | settle, purge_expired, page |
| P fading | zset: `<id>` or `<id> <list owner>` of ended tasks by end of retention | none | settle, purge_expired |
| P epoch | hash: this data's history, its lowest fence, if there are pauses, arq workers | none | claim, park, cancel |
| P paused | hash: `queue <name>`, `tool <app>/<tool>` to who paused it, when, why | none | set_pause |
| P schedules | hash: `<app>/<tool>` to its latest firing and task, schedule | none | create, set_schedule |
| P ended | hash: `<outcome> <queue> <tool>` to how many tasks ended so, a thousand rows at most | none | settle |
| P figures:<app> | hash: `<what> <queue> <label> <tool>` to how often, `tool <tool>` | 90 days after the last | count |
| P counted:<process> | string: the last batch of counts that a process has added | a day | count |
| P open:<principal> | zset: open task ids of one owner | none (gone if empty) | create, settle |
| P kept:<principal> | hash: end of retention to what is kept until then | the last of these | create, settle |
| P queue:<name> | zset: task id by visibility deadline, ms | none (gone if empty) | all that move tasks |
| P wake:<name> | list: tokens, at most 128 | a minute | create, release, claim, answer |
| P newcomer:<name> | list: a token, for a worker with reserved slots only | a second | create, release, claim, answer |
| P webhook:<id> | hash: ended task whose webhook is not delivered; `d_*`: its tries | thirty days | settle |
| P webhooks | zset: all of these tasks by their end | thirty days | settle |
| P deliveries:<app> | zset: those of one app by when they are tried next | thirty days | settle |
| P once:<principal>:<key> | string: `<task id> <digest>` | live, then retention if it succeeded | create |
| P pace:<queue> | hash: position served last, next of each principal; `lane:<lane>` too | none | all that move tasks |
| P lane:<lane> | zset: tasks that occupy a slot of a lane | none (gone if empty) | all that move tasks |
| P line:<lane> | zset: tasks that wait for a slot of a lane | none (gone if empty) | all that move tasks |
| P starts:<lane> | list: the latest starts, for a rate | the period | claim |
| P secret | string: seals `requestState` for all replicas | none | first server |
| P reconciling | string: one worker at a time repairs | seconds | worker |
| P worker:<id> | string: health, JSON | three renewals | worker |
| P orders | hash: `drained <worker or host>`, `slots <worker or host>` to who wants what, JSON | none | operators |
| P workers | set: ids of workers, some perhaps gone | nine renewals | worker, who lists them |
| P turn:<worker>:<sender> | string: what its last claim took | the lease, or two minutes | claim |
| P sessions | zset: sessions by when they end if idle | the idle time | sessions |
| P owned:<principal> | zset: sessions of one owner by when they end if never used | seven idle times | sessions |
| P session:<id> | hash: owner; `client`, `state:<name>`, maybe sealed | the idle time | sessions, set_state |
| P state:<app>:<principal> | hash: `state:<name>`: `<expiry, ms> <value>`, maybe sealed | the state's | set_state |
| P followed:<session> | hash: tasks that the session follows, and their progress tokens | the idle time | sessions |
| P calls:<session> | hash: request id -> open call | the idle time | open calls |
| P call:<id> | hash: an open call whose stream can be resumed | a day | open calls |
| P outbox:<call> | stream: sent by a call without a task, maybe sealed | a minute, five once it ended | open calls |
| P left:<owner>:<digest> | string: task whose held call lost its client | drop grace and a minute | abandoned calls |
| P timeout:<client> | string: seconds after which the client gave a call up | an hour or a day | call timeouts |
| P reply:<session>:<id> | string: a reply, empty while it is expected | the idle time, then a minute | sessions |
| P absent | never there: in a cluster every script names it | - | - |
| arq:job:<id> | string: arq's job, JSON, id only | live, deleted at the end | create, reconcile |
| arq:in-progress:<id> | string: the fence (where stock arq workers claim) | the lease | claim, renew |
| arq:retry:<id> | string: arq's own counter (stock workers only) | arq's 24 h, deleted at the end | arq |
| channel P task:<id> | event number; `log ` and log messages, maybe sealed | - | every move; log |
| channel P output:<id> | number of the last chunk | - | append_output |
| channel P session:<id> | JSON: for the process that serves a call of the session | - | sessions |
| channel P push:<session> | JSON: for the process that serves the session's own stream | - | sessions |
| channel P outbox:<call> | message number | - | open calls |
| channel P lists:<app> | JSON: which lists of a server that is not ours have changed | - | servers, workers |
| channel P signal:<worker> | `cancel <id>`, `answer <id>` or `orders` | - | cancel, answer, operators |
"""

import re

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

from taskmill.store.formats.cluster_address import tag_of

__all__ = ["DEAD_LETTERS", "UNEXPIRING", "Keys"]

UNEXPIRING = (
    *("task:", "events:", "args:", "inputs:", "journal:", "errors:", "once:"),
    *("output:", "artifacts:", "artifact:", "blob:", "outside"),
    *(
        "live",
        "all",
        "list:",
        "dead",
        "fading",
        "ended",
        "epoch",
        "paused",
        "schedules",
        "orders",
        "open:",
        "queue:",
        "pace:",
        "lane:",
        "line:",
        "secret",
        "layout",
    ),
    job_key_prefix,
)
"""Key families that may have no TTL (while a task is open, or bounded and shared); all others always have one."""

DEAD_LETTERS = " dead"
"""List owner of the dead letters; no principal has a blank in it."""

_PER_TASK = {
    "record": "{p}task:",
    "events": "{p}events:",
    "args": "{p}args:",
    "inputs": "{p}inputs:",
    "journal": "{p}journal:",
    "errors": "{p}errors:",
    "result": "{p}result:",
    "output": "{p}output:",
    "artifacts": "{p}artifacts:",
    "artifact": "{p}artifact:",
    "blob": "{p}blob:",
    "open": "{p}open:",
    "list": "{p}list:",
    "kept": "{p}kept:",
    "once": "{p}once:",
    "queue": "{p}queue:",
    "wake": "{p}wake:",
    "newcomer": "{p}newcomer:",
    "ordering": "{p}pace:",
    "lane": "{p}lane:",
    "lane_queue": "{p}line:",
    "starts": "{p}starts:",
    "signal": "{p}signal:",
    "worker": "{p}worker:",
    "last_claim": "{p}turn:",
    "figures": "{p}figures:",
    "counted": "{p}counted:",
    "session": "{p}session:",
    "state": "{p}state:",
    "owned_sessions": "{p}owned:",
    "followed": "{p}followed:",
    "calls": "{p}calls:",
    "call": "{p}call:",
    "outbox": "{p}outbox:",
    "reply": "{p}reply:",
    "push": "{p}push:",
    "lists": "{p}lists:",
    "left": "{p}left:",
    "call_timeout": "{p}timeout:",
    "webhook": "{p}webhook:",
    "deliveries": "{p}deliveries:",
    "job": job_key_prefix,
    "in_progress": in_progress_key_prefix,
    "retry": retry_key_prefix,
}

_ARQ = ("job", "in_progress", "retry")
"""Those whose names are arq's."""

_SETS = ("live", "all", "dead", "fading", "ended", "epoch", "paused", "schedules", "outside", "sessions", "webhooks")
"""Of those that are not one of many: what scripts name."""

_KEY_OF = re.compile(r"\bK\.(\w+)\(([^()]*)\)")
_SET = re.compile(r"\bK\.(\w+)")


class Keys:
    """The keys of one deployment: everything under one prefix."""

    def __init__(
        self, prefix: str = "taskmill", *, in_cluster: bool = False, part: tuple[int, int] | None = None
    ) -> None:
        """`in_cluster`: arq's keys get the hash tag, too. `part`: of the cluster, see `cluster_address.py`."""
        self.prefix = prefix
        self.in_cluster = in_cluster
        self.part = part
        self.root = "{" + tag_of(prefix, part) + "}:"
        self.absent = self.root + "absent"
        self.live = self.root + "live"
        self.all = self.root + "all"
        self.dead = self.root + "dead"
        self.fading = self.root + "fading"
        self.ended = self.root + "ended"
        self.epoch = self.root + "epoch"
        self.paused = self.root + "paused"
        self.schedules = self.root + "schedules"
        self.orders = self.root + "orders"
        self.workers = self.root + "workers"
        self.reconciling = self.root + "reconciling"
        self.secret = self.root + "secret"
        self.layout = self.root + "layout"
        self.outside = self.root + "outside"
        self.audit = self.root + "audit"
        self.sessions = self.root + "sessions"
        self.webhooks = self.root + "webhooks"
        self._stems = {name: stem.format(p=self.root) for name, stem in _PER_TASK.items()}
        if in_cluster:
            self._stems |= {name: self.root + self._stems[name] for name in _ARQ}
        self._sets = {name: self.root + name for name in _SETS}

    def placed(self, text: str) -> str:
        """Lua text with the keys filled in: `K.record(id)`, ..., and `K.live` and the other sets.

        Raises:
            KeyError: there is no such key.
        """
        keyed = _KEY_OF.sub(lambda found: f"('{self._stems[found[1]]}' .. ({found[2]}))", text)
        return _SET.sub(lambda found: f"'{self._sets[found[1]]}'", keyed)

    def record(self, task_id: str) -> str:
        """Record hash; also the name of the channel that announces its events."""
        return self._stems["record"] + task_id

    def events(self, task_id: str) -> str:
        """History."""
        return self._stems["events"] + task_id

    def args(self, task_id: str) -> str:
        """Arguments."""
        return self._stems["args"] + task_id

    def inputs(self, task_id: str) -> str:
        """Questions and answers."""
        return self._stems["inputs"] + task_id

    def journal(self, task_id: str) -> str:
        """Results of steps, and the task's state."""
        return self._stems["journal"] + task_id

    def errors(self, task_id: str) -> str:
        """Why attempts failed."""
        return self._stems["errors"] + task_id

    def result(self, task_id: str) -> str:
        """Outcome."""
        return self._stems["result"] + task_id

    def output(self, task_id: str) -> str:
        """What the tool emitted; also the name of the channel that announces it."""
        return self._stems["output"] + task_id

    def artifacts(self, task_id: str) -> str:
        """Ids of a task's artifacts."""
        return self._stems["artifacts"] + task_id

    def artifact(self, artifact_id: str) -> str:
        """What is known of an artifact."""
        return self._stems["artifact"] + artifact_id

    def blob(self, artifact_id: str) -> str:
        """Bytes of a small artifact."""
        return self._stems["blob"] + artifact_id

    def open(self, principal: str) -> str:
        """Open tasks of one owner."""
        return self._stems["open"] + principal

    def kept(self, principal: str) -> str:
        """What one owner keeps: sums of tasks and bytes by when they expire."""
        return self._stems["kept"] + principal

    def list(self, list_owner: str) -> str:
        """The tasks that one owner may list, or the dead letters."""
        return self.dead if list_owner == DEAD_LETTERS else self._stems["list"] + list_owner

    def queue(self, name: str) -> str:
        """A queue: arq's sorted set."""
        return self._stems["queue"] + name

    def lane(self, key: str) -> str:
        """The tasks that occupy a slot of a lane."""
        return self._stems["lane"] + key

    def lane_queue(self, key: str) -> str:
        """The tasks that wait for a slot of a lane."""
        return self._stems["lane_queue"] + key

    def starts(self, key: str) -> str:
        """The latest starts of a lane with a rate."""
        return self._stems["starts"] + key

    def once(self, key: str) -> str:
        """What an idempotency key stands for, by `principal:key`."""
        return self._stems["once"] + key

    def ordering(self, name: str) -> str:
        """The ordering of a queue, or of `lane:<lane>`: the position served last, and each principal's next one."""
        return self._stems["ordering"] + name

    def wake(self, name: str) -> str:
        """Tokens that wake idle workers of a queue."""
        return self._stems["wake"] + name

    def newcomer(self, name: str) -> str:
        """A token for workers of a queue that have only reserved slots free: a caller's task came that may have one."""
        return self._stems["newcomer"] + name

    def worker(self, worker_id: str) -> str:
        """Health of one worker."""
        return self._stems["worker"] + worker_id

    def signal(self, worker_id: str) -> str:
        """Channel on which one worker receives cancels and answers."""
        return self._stems["signal"] + worker_id

    def session(self, session_id: str) -> str:
        """A session; also the channel of the processes that serve its calls."""
        return self._stems["session"] + session_id

    def state(self, owner: str) -> str:
        """What tools keep for a principal, by `app:principal`."""
        return self._stems["state"] + owner

    def owned_sessions(self, principal: str) -> str:
        """The sessions of one owner."""
        return self._stems["owned_sessions"] + principal

    def push(self, session_id: str) -> str:
        """Channel of the process that serves the session's own stream."""
        return self._stems["push"] + session_id

    def lists(self, app: str) -> str:
        """Channel of reports that the lists of a server have changed."""
        return self._stems["lists"] + app

    def followed(self, session_id: str) -> str:
        """Tasks whose changes are sent to a session."""
        return self._stems["followed"] + session_id

    def calls(self, session_id: str) -> str:
        """Open calls of a session by request id."""
        return self._stems["calls"] + session_id

    def call(self, call_id: str) -> str:
        """An open call."""
        return self._stems["call"] + call_id

    def outbox(self, call_id: str) -> str:
        """What a call has sent so far; also the channel that announces it."""
        return self._stems["outbox"] + call_id

    def reply(self, request: str) -> str:
        """The client's reply to one request, by `session:id`."""
        return self._stems["reply"] + request

    def left(self, call: str) -> str:
        """The task of a held call whose client went away, by `owner:digest`."""
        return self._stems["left"] + call

    def call_timeout(self, client: str) -> str:
        """What was learned of a client's call timeout, by a digest of who it is."""
        return self._stems["call_timeout"] + client

    def webhook(self, task_id: str) -> str:
        """What is sent to the webhook of an ended task, and how that fares."""
        return self._stems["webhook"] + task_id

    def deliveries(self, app: str) -> str:
        """The webhooks of one app that are to be delivered."""
        return self._stems["deliveries"] + app

    def last_claim(self, sender: str) -> str:
        """What the last claim of one sender of a worker took."""
        return self._stems["last_claim"] + sender

    def figures(self, app: str) -> str:
        """What has been counted of an app's tasks, by tool."""
        return self._stems["figures"] + app

    def counted(self, process: str) -> str:
        """The last batch of counts that a process has added."""
        return self._stems["counted"] + process

    def job(self, task_id: str) -> str:
        """arq's job."""
        return self._stems["job"] + task_id

    def in_progress(self, task_id: str) -> str:
        """arq's in-progress mark; ours contains the fence."""
        return self._stems["in_progress"] + task_id

    def task_of(self, record_key: str) -> str:
        """The task id in a record key or event channel."""
        return record_key.removeprefix(self._stems["record"])
