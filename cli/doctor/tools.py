"""Findings of `taskmill doctor` about a file's task tools and the workers that run them. Pure functions, no I/O."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from taskmill.engine.policy import TaskConfig
from taskmill.store.connection.checks import Finding
from taskmill.store.formats.queue_names import app_of, author_queue, shared_app
from taskmill.store.tasks.pauses import Pause
from taskmill.store.tasks.stats import queues_of

__all__ = ["pause_findings", "tool_findings", "worker_findings"]

_MIB = 1024 * 1024


def tool_findings(policies: Mapping[str, TaskConfig], *, has_auth: bool, resident: int) -> Iterator[Finding]:
    """Each tool's policy in words, and the parts of it that cannot work.

    `has_auth`: whether the server requires a token; `resident`: bytes of memory of a process with the file's modules.
    """
    for name, policy in policies.items():
        yield Finding(f"tool {name}", "ok", ", ".join(_policy_words(policy)))
        limit = policy.memory_limit
        if limit is not None and limit < resident:
            found = f"memory_limit is {limit // _MIB} MiB, and a process with this file loaded takes {resident // _MIB}"
            yield Finding(f"tool {name}", "warning", found, "give it more, or every run of it may fail")
        if policy.scopes and not has_auth:
            found = f"it needs the scope {' '.join(policy.scopes)}, and the server has no authentication to grant one"
            yield Finding(f"tool {name}", "warning", found, "over HTTP no one can call it: give TaskServer auth=...")


def pause_findings(pauses: Sequence[Pause]) -> Iterator[Finding]:
    """Each queue and tool that is paused: its tasks wait until someone resumes it."""
    for pause in pauses:
        why = f": {pause.reason}" if pause.reason else ""
        found = f"{pause.kind} {pause.name} is paused by {pause.by or 'an operator'}{why}"
        yield Finding("pause", "warning", found, f"when it may go on: taskmill {pause.kind}s resume {pause.name}")


def worker_findings(
    workers: Sequence[Mapping[str, Any]],
    policies: Mapping[str, TaskConfig],
    apps: Collection[str] | None,
    *,
    is_embedded: bool,
) -> Iterator[Finding]:
    """Each live worker, tools that none of them runs, and queues that no tool uses.

    `apps`: those of the file, deployed and under development; None = there is no file.
    """
    if not workers:
        if is_embedded:
            yield Finding("workers", "ok", "none now; `taskmill run` and `taskmill call` bring their own")
        else:
            yield Finding("workers", "warning", "none is alive, so tasks wait", "start one: taskmill worker FILE")
        return
    for one in workers:
        load = f"{one['running']} of {one['concurrency']} running, {one['settled']} settled"
        yield Finding(f"worker {one['worker']}", "ok", f"queue {one['queue']}, {load}")
    if apps is None:
        return
    queues = [
        (one, {author_queue(name) for name in queues_of(one) if shared_app(app_of(name)) in apps}) for one in workers
    ]
    served = {name for _, names in queues for name in names}
    for name, policy in policies.items():
        start = f"start one: taskmill worker FILE --queue {policy.queue}"
        if policy.queue not in served:
            yield Finding(
                f"tool {name}", "warning", f"no live worker serves queue {policy.queue}: its tasks wait", start
            )
        elif not any(policy.queue in names and name in one["tools"] for one, names in queues):
            found = f"no live worker of queue {policy.queue} has it, so its tasks wait"
            yield Finding(f"tool {name}", "warning", found, start)
    if policies:
        for queue in sorted(served - {policy.queue for policy in policies.values()}):
            found = "live workers serve it, and no tool of this file uses it"
            yield Finding(
                f"queue {queue}", "warning", found, "is the name misspelt, or are the workers of another file?"
            )


def _policy_words(policy: TaskConfig) -> Iterator[str]:
    yield policy.mode
    yield "no time limit" if policy.run_limit is None else f"timeout {policy.run_limit.total_seconds():g} s"
    if policy.time_limit is not None:
        yield f"deadline {policy.time_limit.total_seconds():g} s"
    yield f"{policy.retries} retries"
    yield f"result kept {policy.kept_for.total_seconds() / 3600:.3g} h"
    yield f"queue {policy.queue}"
    if policy.priority:
        yield f"priority {policy.priority:+d}"
    if policy.idempotency is not None:
        yield f"once for each {_key_text(policy.idempotency)}"
    yield from _concurrency_words(policy)
    if policy.isolation == "process":
        yield " ".join(_isolation_words(policy))
    if policy.scopes:
        yield f"scopes {' '.join(policy.scopes)}"


def _isolation_words(policy: TaskConfig) -> Iterator[str]:
    limits = policy.limits
    yield "in a process of its own"
    if limits.memory is not None:
        yield f"of {limits.memory // _MIB} MiB at most"
    if policy.reuse != "principal":
        yield "for each task" if policy.reuse == "never" else "for all callers"


def _concurrency_words(policy: TaskConfig) -> Iterator[str]:
    of = "in all" if policy.concurrency_key is None else f"for each {_key_text(policy.concurrency_key)}"
    limit = policy.concurrency_limit
    if limit is None and policy.concurrency_key is not None and policy.rate_limit is None:
        limit = 1
    if limit is not None:
        yield f"{limit} at a time {of}"
    if policy.rate_limit is not None:
        starts, period = policy.rate_limit
        seconds = period.total_seconds() if hasattr(period, "total_seconds") else period
        yield f"{starts} starts in {seconds:g} s {of}"


def _key_text(source: object) -> str:
    """A key as its author wrote it: a template or names unchanged, a function by its name."""
    if isinstance(source, str):
        return source
    return f"{getattr(source, '__name__', 'key')}(...)" if callable(source) else "-".join(map(str, source))  # type: ignore[call-overload]
