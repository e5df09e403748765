"""`RemoteHost`: servers that are not ours, as commands, workers and tests take a server object."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from fastmcp import FastMCP
from mcp.shared.exceptions import MCPError
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from taskmill.adapters.fastmcp.config import TaskConfig, policy_of
from taskmill.adapters.fastmcp.extension import Tasks
from taskmill.adapters.fastmcp.host import FastMCPHost, in_event_loop
from taskmill.adapters.fastmcp.toolbox import FastMCPToolbox
from taskmill.adapters.remote.caller import caller_of_task, calling_as, roots_of_task
from taskmill.adapters.remote.list_watch import ListWatch
from taskmill.adapters.remote.provider import RemoteProvider
from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.settings import RemoteSettings, upstream_headers
from taskmill.adapters.remote.target import label_of, shown, upstreams_of
from taskmill.adapters.remote.words import UpstreamUnreachable, cause_of
from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ServerLoadError
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig as Policy
from taskmill.server.handlers.pipe_listeners import PipeListeners

__all__ = ["RemoteHost"]

# The call would be lost with the memory of its worker, so a task that waits for an answer stays there.
_CONFIG = TaskConfig(park_after=None)


class RemoteHost(FastMCPHost):
    """The servers that one TARGET names. See `ToolHost` for each method."""

    def __init__(self, target: str, settings: RemoteSettings) -> None:
        """Asks each server for its tools; in a running event loop `collect` does.

        Raises:
            ServerLoadError: a server cannot be reached, or answers nothing that is known; the words say which.
            SettingsError: a header is none.
        """
        self._target = target
        upstreams = upstreams_of(target, upstream_headers(settings))
        self._providers = [RemoteProvider(one, settings.repeat) for one in upstreams]
        # Schemas as the server has them: without this FastMCP would write each $ref out.
        server: FastMCP[Any] = FastMCP(label_of(target), dereference_schemas=False)
        if len(upstreams) == 1:
            # Of several servers, those that answer are served meanwhile.
            server.provider_error_strategy = "raise"
        for provider, upstream in zip(self._providers, upstreams, strict=True):
            server.add_provider(provider, namespace=upstream.prefix or "")
        server.add_extension(Tasks(also=dict.fromkeys(settings.task, _CONFIG)))
        self.server = server
        if not in_event_loop():
            asyncio.run(self._load())
        super().__init__(server)
        changes = self.tasks.runtime.changes
        watch = ListWatch(self._providers, changes)
        self.tasks.services.append(lambda store: watch.running(store.list_changes))
        self.lowlevel.middleware.insert(0, PipeListeners(changes))

    async def collect(self) -> None:
        """See `FastMCPHost`.

        Raises:
            ServerLoadError: as above.
        """
        await self._load()
        await super().collect()

    async def _load(self) -> None:
        """Ask each server for its tools and for what it says of itself. No connection is left."""
        for provider in self._providers:
            try:
                await provider.load()
            except (UpstreamUnreachable, MCPError, TimeoutError) as exc:
                upstream, target = provider.sessions.upstream, shown(self._target)
                who = target if upstream.prefix is None else f"{upstream.label!r} of {target}"
                why = f"it cannot be reached: {exc.why}" if isinstance(exc, UpstreamUnreachable) else cause_of(exc)
                raise ServerLoadError(f"The server {who} cannot be asked for its tools: {why}.") from None
        texts = [(one.prefix, one.instructions) for one in self._providers if one.instructions]
        words = [f"{prefix}: {text}" if prefix else text for prefix, text in texts]
        self.server.instructions = "\n\n".join(words) or None
        if any(one.completes for one in self._providers):
            self.server.add_completion_handler(self._complete)

    @property
    def open_sessions(self) -> int:
        """How many sessions with the servers are open, or being opened or closed, in this process."""
        return sum(one.sessions.open_count for one in self._providers)

    async def _complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        for provider in self._providers:
            found = provider.own_reference(ref)
            if found is not None and provider.completes:
                return await provider.complete(found, argument, context)
        return None

    @property
    def name(self) -> str:
        """See `ToolHost`. Tells the tasks of this TARGET from those of every other one."""
        return f"{super().name} {sha256(self._target.encode()).hexdigest()[:8]}"

    @asynccontextmanager
    async def toolbox(self) -> AsyncIterator[FastMCPToolbox]:
        """See `ToolSource`."""
        async with super().toolbox():
            toolbox = RemoteToolbox(self, [one.sessions for one in self._providers])
            for provider in self._providers:
                provider.on_change.append(toolbox.note_changes)
            try:
                yield toolbox
            finally:
                for provider in self._providers:
                    provider.on_change.remove(toolbox.note_changes)


class RemoteToolbox(FastMCPToolbox):
    """The tools in a worker: each call is its caller's, and a tool that is gone fails in words."""

    def __init__(self, host: RemoteHost, sessions: Sequence[UpstreamSessions]) -> None:
        super().__init__(host.server, host.tasks.tools)
        self._sessions = sessions
        self._report: Callable[[Collection[str]], None] | None = None
        """Of the latest attempt: a session may be sent a change after its call."""

    def note_changes(self, kinds: frozenset[str]) -> None:
        """A session of this worker was sent that lists have changed: report it to those who serve clients."""
        if self._report is not None:
            self._report(kinds)

    def policy(self, tool: str) -> Policy | None:
        """The policy of a task tool; of one that is not known too, so that its task ends and says why."""
        return super().policy(tool) or policy_of(_CONFIG)

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt. All its rounds, the task that a server makes of it, and a cancel have one session."""
        caller = caller_of_task(context.task_id, context.principal, payload)
        self._report = context.report_list_changes
        try:
            with calling_as(caller), roots_of_task(payload):
                return await super().run(tool, payload, context)
        finally:
            for sessions in self._sessions:
                sessions.end_call(caller)
