"""The author's `Context`: the SDK's, and what a task adds. The same class in a foreground call and in a worker."""

from collections.abc import Awaitable, Mapping
from secrets import token_urlsafe
from typing import Any, Generic, overload

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.context import LifespanContextT, RequestT
from mcp.server.elicitation import ElicitationResult, ElicitSchemaModelT, UrlElicitationResult
from mcp.server.mcpserver import Context as SdkContext
from mcp_types import (
    InputResponseRequestParams,
    ListRootsResult,
)
from pydantic import PrivateAttr
from pydantic_core import to_jsonable_python

from taskmill.engine.context import CallerStatePort, TaskContext
from taskmill.engine.errors import NotInTask
from taskmill.server.auth.principal import owner
from taskmill.server.auth.scopes import claims_of
from taskmill.server.context.client_models import ClientModel, ClientOfCall, ClientOfTask, NoClient
from taskmill.server.context.detached_request import detached_request
from taskmill.server.context.elicitation import (
    ask_form,
    ask_form_now,
    ask_link,
    ask_roots,
)
from taskmill.server.context.forms import form_of
from taskmill.server.context.sampling_members import SamplingMembers
from taskmill.server.protocol.sdk_private import context_parts, request_of, server_of, subscriptions_of
from taskmill.server.sampling.own_model import OwnModel

__all__ = ["Context"]


class Context(SamplingMembers, SdkContext[LifespanContextT, RequestT], Generic[LifespanContextT, RequestT]):
    """What a tool gets. Outside a task the facts of the task are None, and everything else is the SDK's."""

    _task: TaskContext | None = PrivateAttr(default=None)
    _claims: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _state: dict[str, Any] | None = PrivateAttr(default=None)
    _last_progress: float = PrivateAttr(default=0)
    _samples_by_tool: bool = PrivateAttr(default=False)

    def __init__(self, *, task: TaskContext | None = None, **sdk: Any) -> None:
        """`task`: the attempt this context belongs to, None in a foreground call; the rest is the SDK's."""
        super().__init__(**sdk)
        self._task = task

    @classmethod
    def wrap(cls, context: SdkContext[Any, Any]) -> "Context[Any, Any]":
        """The same foreground request, with this class's interface."""
        if isinstance(context, Context):
            return context
        return cls(**context_parts(context))

    @classmethod
    def for_task(
        cls,
        task: TaskContext,
        server: Any,
        lifespan: Any,
        client: dict[str, Any],
        inputs: InputResponseRequestParams,
        claims: Mapping[str, Any],
    ) -> "Context[Any, Any]":
        """The context of one attempt; `client`: `info` and `capabilities` as the caller declared them.

        `samples_by_tool` in `client`: it has no model of its own, but the one that called the tool can answer.
        """
        made = cls(
            task=task,
            request_context=detached_request(
                task.task_id, lifespan, client_info=client.get("info"), capabilities=client.get("capabilities")
            ),
            mcp_server=server,
            input_params=inputs,
            subscriptions=subscriptions_of(server),
        )
        made._claims = dict(claims)
        made._samples_by_tool = client.get("samples_by_tool", False)
        return made

    @property
    def principal(self) -> str:
        """Who called, as a digest that is the same in every task of the same user; `anonymous` without a token."""
        return self._task.principal if self._task else owner(request_of(self))

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims of the caller's token that the server lists in `visible_claims`; the token itself never."""
        if self._task is not None:
            return self._claims
        return claims_of(get_access_token(), getattr(server_of(self), "visible_claims", ()))

    @property
    def task_id(self) -> str | None:
        """Id of the task, None in a foreground call."""
        return self._task.task_id if self._task else None

    @property
    def lifespan(self) -> LifespanContextT:
        """What the server's `lifespan` yielded in this process."""
        return self.request_context.lifespan_context

    def report_progress(  # type: ignore[override]  # not `async def`: a plain tool calls it without await
        self,
        progress: float | None = None,
        total: float | None = None,
        message: str | None = None,
        *,
        current: float | None = None,
    ) -> Awaitable[None]:
        """Say how far the work is: `progress` (or `current`) of `total` (None = unknown), and in words.

        In a task it takes effect at once and never waits, so awaiting it is optional; the last value wins. A call with
        only a message leaves the number as it was in the foreground, and takes it away in a task.

        Raises:
            TypeError: `progress` and `current` are both given, or nothing is.
        """
        if progress is not None and current is not None:
            raise TypeError("report_progress takes progress or current, which mean the same, not both.")
        done = current if progress is None else progress
        if done is None and message is None:
            raise TypeError("report_progress needs how far the work is (progress=...), or a message=... .")
        if self._task is not None:
            return self._task.report_progress(done, total, message)
        if done is not None:
            self._last_progress = done
        return super().report_progress(self._last_progress, total, message)

    @property
    def state(self) -> dict[str, Any]:
        """Small JSON, saved with each step and question, and by `save`; later attempts begin with what was saved.

        Raises:
            NotInTask: the tool is no task tool, so the next call would not find what this one put there.
        """
        if self._task is not None:
            return self._task.journal.state
        if self._state is None:
            raise NotInTask(
                "ctx.state belongs to one task and its attempts, and this is no task: write @mcp.tool(task=True), or "
                "keep what several calls share in ctx.lifespan or a store of your own."
            )
        return self._state

    def keep_state(self) -> None:
        """Have `state` for this call: a task tool is called in the foreground, where there is one attempt."""
        self._state = {}

    @overload
    async def elicit(self, message: str, schema: type[ElicitSchemaModelT]) -> ElicitationResult[ElicitSchemaModelT]: ...
    @overload
    async def elicit(self, message: str, schema: Any = None) -> ElicitationResult[Any]: ...
    async def elicit(self, message: str, schema: Any = None) -> ElicitationResult[Any]:
        """Ask the user: `.action` is accept, decline or cancel; `.data` is the accepted answer.

        `schema`: a pydantic model or a dataclass; or, for one answer, `str`, `int`, `float`, `bool`, a list of choices,
        a dict of choices and their titles, a `Literal`, an `Enum`, or `list[...]` of one of these; None = the user only
        agrees. In a task the question appears in `inputRequests`; several may be open at once (`asyncio.gather`).

        Raises:
            MCPError: the client cannot ask its user (-32021).
            TypeError: no form can ask for that.
            ValueError: the accepted answer does not fit `schema`.
        """
        form = form_of(schema)
        if self._task is None:
            return await ask_form_now(self.session, self.request_id, message, form)
        return await ask_form(self._task, self.client_capabilities, message, form)

    async def elicit_url(self, message: str, url: str, elicitation_id: str | None = None) -> UrlElicitationResult:
        """Ask the user to open a link, for what must not pass through the client; `.action` tells whether the user did.

        Raises:
            MCPError: the client cannot open a link (-32021).
        """
        if self._task is None:
            return await super().elicit_url(message, url, elicitation_id or token_urlsafe(24))
        return await ask_link(self._task, self.client_capabilities, message, url, elicitation_id)

    def _caller_state(self) -> CallerStatePort:
        if self._task is not None:
            return self._task.caller_state
        server: Any = server_of(self)
        state: CallerStatePort = server.caller_state(request_of(self))
        return state

    def _models(self) -> tuple[OwnModel, ClientModel]:
        own = getattr(server_of(self), "own_model", None) or OwnModel(None, None)
        if self._task is not None:
            return own, ClientOfTask(self._task, self.client_capabilities, self._samples_by_tool)
        request = request_of(self)
        return own, ClientOfCall(self.session, request.protocol_version) if request else NoClient()

    async def list_roots(self) -> ListRootsResult:
        """The directories the client works on (`.roots`); MCPError (-32021) if it has none."""
        if self._task is None:
            roots: ListRootsResult = await self.session.list_roots()
            return roots
        return await ask_roots(self._task, self.client_capabilities)

    async def log(self, level: Any, data: Any, *, logger_name: str | None = None) -> None:
        """A log message to the client, as far as it can be sent one; a task of 2026-07-28 has no stream for it."""
        if self._task is None:
            await super().log(level, data, logger_name=logger_name)
            return
        self._task.log(level, to_jsonable_python(data, fallback=str), logger_name)
