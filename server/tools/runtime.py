"""What a serving process holds: its open store, its settings, and what the author's lifespan yielded.

Creates no tasks (`submission.py`) and knows no protocol revision.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.context import ServerRequestContext

from taskmill.engine.context import CallerStatePort
from taskmill.engine.errors import (
    PolicyError,
    StateUnavailable,
    StoreFull,
    StoreUnavailable,
    TaskmillError,
    TaskNotFound,
    ToolUnfit,
)
from taskmill.engine.principal import PrincipalLimits
from taskmill.server.audit.processes import ProcessActor
from taskmill.server.auth.principal import claims_of_caller, owner, session_of
from taskmill.server.limits.full_callers import FullCallers
from taskmill.server.limits.large_work import LargeWork
from taskmill.server.limits.rates import Rates
from taskmill.server.protocol.change_bus import ChangeBus
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import TaskTools
from taskmill.server.tools.abandoned_calls import AbandonedCalls
from taskmill.server.tools.client_log import ClientLog
from taskmill.server.tools.registry import ToolRegistry
from taskmill.store.audit.records import leave_trail
from taskmill.store.audit.trail import AuditTrail
from taskmill.store.audited import audited
from taskmill.store.opening import open_store
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["ServerRuntime"]

_LIFESPAN_MISSING = (
    "The application did not run this server's lifespan, so the task store is not open. Where it is mounted, write: "
    "app = FastAPI(lifespan=mcp.lifespan), or Starlette(...) likewise, and app.mount('/', mcp.http_app())."
)


class ServerRuntime:
    """The task tools of one server, and its store while it is serving."""

    def __init__(self, visible_claims: Sequence[str] = (), tools: TaskTools | None = None) -> None:
        """`visible_claims`: names of the claims in a caller's token that its tasks may see.

        `tools`: the task tools; None = there are none.

        Raises:
            PolicyError: a name instead of a list of names.
        """
        if isinstance(visible_claims, str):
            raise PolicyError(f"visible_claims must be a list of names, such as [{visible_claims!r}]")
        self.visible_claims = tuple(visible_claims)
        self.tools: TaskTools = ToolRegistry() if tools is None else tools
        self.clients = ClientLog()
        self.changes = ChangeBus()
        self.creations = Rates("creations", "calls of task tools")
        self.full_callers = FullCallers()
        self.large_work = LargeWork()
        self.refusals: Counter[str] = Counter()
        """How often a limit was reached, by its name."""
        self.serves_http = False
        """Whether this process may be reached over HTTP: then no caller is trusted without a token."""
        self.lifespan_missing = _LIFESPAN_MISSING
        """What an author has to write who mounts the server and forgets its lifespan."""
        self.was_opened = False
        """Whether the lifespan has been entered; the process may be stopping by now."""
        self.keeps_tasks = True
        """Whether there is a store; without one there are no task tools, and no task either."""
        self._store: TaskStore | None = None
        self.trail: AuditTrail | None = None
        """The audit trail, while the server is serving and its settings want one."""
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.abandoned_calls: AbandonedCalls
        """Tasks of held calls whose clients disconnected, while the server is serving."""
        self.settings = ServerSettings.model_construct()
        """Those of the process, while the server is serving."""
        self.is_open = False
        """Whether requests are served: the author's lifespan has begun."""
        self.lifespan_state: Any = None
        """What the author's lifespan yielded, while the server is serving."""

    @property
    def store(self) -> TaskStore:
        """The store.

        Raises:
            StoreUnavailable: the server is not serving (its lifespan has not been entered).
            TaskNotFound: it serves without a store.
        """
        if not self.keeps_tasks:
            raise TaskNotFound("Task not found: this server has no task tools, so it has no tasks.")
        if self._store is None:
            raise StoreUnavailable("The server has stopped." if self.was_opened else self.lifespan_missing)
        return self._store

    def caller_state(self, request: ServerRequestContext[Any, Any] | None) -> CallerStatePort:
        """The values that tools keep for who sends a request, None = no one in particular.

        Raises:
            StateUnavailable: the server has no store.
            StoreUnavailable: it is not serving.
        """
        if not self.keeps_tasks:
            raise StateUnavailable(
                "This tool keeps values for its callers, and its server started without a Redis, because it has no "
                "task tools: set TASKMILL_REDIS_URL, or register a task tool."
            )
        return self.store.caller_states.of(owner(request), session_of(request))

    @asynccontextmanager
    async def serving(self, settings: ServerSettings) -> AsyncIterator[TaskStore]:
        """Have the store open."""
        async with open_store(settings) as opened, audited(opened, settings) as (store, trail), self._leaving(trail):
            self._store, self.settings, self.was_opened = store, settings, True
            self.abandoned_calls = AbandonedCalls(store, settings.drop_grace)
            try:
                yield store
            finally:
                self.abandoned_calls.close()
                self._store = None

    @asynccontextmanager
    async def serving_without_store(self, settings: ServerSettings) -> AsyncIterator[None]:
        """Serve without a store, for a server without task tools. A task tool is refused from now on."""
        self.keeps_tasks, self.settings, self.was_opened = False, settings, True
        if not settings.audit:
            yield
            return
        async with AuditTrail(settings, None) as trail, self._leaving(trail):
            yield

    @asynccontextmanager
    async def _leaving(self, trail: AuditTrail | None) -> AsyncIterator[None]:
        self.trail = trail
        # For good: tasks that begin while the server serves act for it too, unless a request says who does.
        leave_trail(None if trail is None else ProcessActor(trail, self.serves_http))
        try:
            yield
        finally:
            self.trail = None
            leave_trail(None)

    def require_closed(self, tool: str) -> None:
        """Refuse a task tool that comes too late.

        Raises:
            ToolUnfit: requests are served already.
        """
        if not self.keeps_tasks:
            raise ToolUnfit(
                f"Tool {tool!r}: its server had no task tools when it started, and so has no Redis and no worker. "
                "Register one task tool at the top level of the file, or set TASKMILL_REDIS_URL."
            )
        if self.is_open:
            raise ToolUnfit(
                f"Tool {tool!r}: it is registered after the server has started, and workers, which are other "
                "processes, would never have it: its tasks would wait without end. Register it at the top level of the "
                "file, or in the lifespan."
            )

    def limits_of(self, principal: str) -> PrincipalLimits:
        """What this principal, who sends the request, may have."""
        if self.settings.limits_file is None:
            return self.settings.limits_of(principal)
        return self.settings.limits_of(principal, claims_of_caller())

    def note_refusal(self, exc: TaskmillError) -> None:
        """Count what was refused because a limit is reached; other errors are none of these."""
        limit = "memory" if isinstance(exc, StoreFull) else exc.facts.get("limit")
        if limit is not None:
            self.refusals[limit] += 1

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` called when the server stops serving."""
        self._closing.append(close)

    @asynccontextmanager
    async def open_with(self, lifespan_state: Any) -> AsyncIterator[None]:
        """Serve requests, with what the author's lifespan yielded."""
        self.lifespan_state, self.is_open = lifespan_state, True
        try:
            yield
        finally:
            self.is_open = False
            for close in self._closing:
                await close()
