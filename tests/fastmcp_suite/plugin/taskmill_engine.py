"""A pytest plugin for FastMCP's own tests: where they add fastmcp-tasks' extension, Taskmill's `Tasks` runs the tasks.

Each server has a worker in the test's process, and keys of its own in one embedded Redis a process. The tests' helpers
call fastmcp-tasks' handlers directly; here they reach the same store in the same way, by principal and id. It runs in
the environment of FastMCP's tests and imports nothing of ours but the product.
"""

import contextlib
import importlib
import logging
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import fastmcp_tasks
import fastmcp_tasks.extension
import fastmcp_tasks.handlers
import pytest
import structlog
from fastmcp.server.dependencies import _serving_client_tool_call, bind_request_context
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID
from fastmcp_tasks.models import CancelTaskResult, CreateTaskResult, GetTaskResult, UpdateTaskResult
from fastmcp_tasks.settings import DocketSettings
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession

from taskmill.adapters.fastmcp import Tasks
from taskmill.adapters.fastmcp import tools as fastmcp_tools
from taskmill.adapters.fastmcp.extension import Wire
from taskmill.adapters.fastmcp.toolbox import FastMCPToolbox
from taskmill.adapters.fastmcp.worker_process import prepare_process
from taskmill.server.auth.principal import owner
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.shapes_2026 import detailed_task
from taskmill.server.settings import ServerSettings
from taskmill.server.tools.answers import take_answers
from taskmill.store.embedded.server import EmbeddedRedis
from taskmill.testing.bed import running_worker
from taskmill.workers.settings import WorkerSettings

# Servers of the tests have tools with CurrentDocket() beside others: refused as a whole, they would test nothing.
fastmcp_tools.refuse_docket = lambda function: None
_HOME = Path(tempfile.mkdtemp(prefix="taskmill-suite-"))
_WITHOUT_HTTP = SimpleNamespace(request=None)
"""The request of the tests' helpers, which call handlers in this process."""


class EngineTasks(Tasks):
    """Takes the arguments of fastmcp-tasks' extension; serves with a worker of its own."""

    created: ClassVar[int] = 0
    """Tasks of all servers of this process."""
    redis_url: ClassVar[str]

    def __init__(self, *, url: str | None = None, name: str | None = None, concurrency: int | None = None, **more: Any):
        super().__init__(follow_up_tools=False)
        given = {"url": url, "name": name, "concurrency": concurrency, **more}
        self.docket_settings = DocketSettings(**{key: value for key, value in given.items() if value is not None})
        submit = self._submission.submit

        async def counted(*arguments: Any, **named: Any) -> Any:
            EngineTasks.created += 1
            return await submit(*arguments, **named)

        self._submission.submit = counted  # type: ignore[method-assign]

    async def intercept_tool_call(self, params: Any, context: Any, call_next: Any) -> Any:
        result = await super().intercept_tool_call(params, context, call_next)
        return CreateTaskResult(**_fields(result.body)) if isinstance(result, Wire) else result

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        common: dict[str, Any] = {"redis_url": self.redis_url, "shards": {}, "queue_shards": {}, "shard": None}
        common |= {"home": _HOME, "prefix": f"p{secrets.token_hex(4)}", "app": ""}
        self.store_settings = ServerSettings(**common)
        async with super().lifespan(), running_worker(_Source(self), WorkerSettings(**common, grace=0.0)):
            yield


class _Source:
    """Runs the tools inside the lifespans that the test has entered."""

    import_path = None

    def __init__(self, tasks: EngineTasks) -> None:
        self._tasks = tasks

    def policies(self) -> Mapping[str, Any]:
        return self._tasks.tools.policies()

    @contextlib.asynccontextmanager
    async def toolbox(self) -> AsyncIterator[FastMCPToolbox]:
        prepare_process()
        yield FastMCPToolbox(self._tasks.server, self._tasks.tools)


def _tasks_of(server: Any) -> EngineTasks:
    found: EngineTasks = server._extensions[TASKS_EXTENSION_ID]
    return found


def _fields(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of fastmcp-tasks' models, from the wire's."""
    return {
        "ttl_ms": None,
        **{re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", key): value[key] for key in value},
    }


async def _get(server: Any, task_id: str) -> GetTaskResult:
    with wire_errors():
        view = await _tasks_of(server).runtime.store.read(task_id, owner(_WITHOUT_HTTP))  # type: ignore[arg-type]
    return GetTaskResult(**_fields(detailed_task(view)))


async def _update(server: Any, task_id: str, responses: Mapping[str, Any]) -> UpdateTaskResult:
    plain = {
        key: one.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(one, "model_dump") else one
        for key, one in responses.items()
    }
    with wire_errors():
        await take_answers(_tasks_of(server).runtime.store, task_id, owner(_WITHOUT_HTTP), plain)  # type: ignore[arg-type]
    return UpdateTaskResult()


async def _cancel(server: Any, task_id: str) -> CancelTaskResult:
    with wire_errors():
        await _tasks_of(server).runtime.store.cancel(task_id, owner(_WITHOUT_HTTP), reason="client")  # type: ignore[arg-type]
    return CancelTaskResult()


def _helpers() -> Any:
    """What FastMCP's tests share."""
    return importlib.import_module("tests.tasks.task_helpers")


@contextlib.contextmanager
def _opted_in_request(name: str, arguments: Any, settings: Any) -> Iterator[None]:
    """A request as a client of 2026-07-28 sends it that declares the extension; the helper's own has no session."""
    params = {"name": name, "arguments": arguments or {}, "_meta": _helpers().opt_in_meta(settings)}
    can = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}, "extensions": {TASKS_EXTENSION_ID: settings or {}}}
    connection = Connection.from_envelope("2026-07-28", {"name": "tests", "version": "1"}, can)
    request = ServerRequestContext(
        session=ServerSession(None, connection),  # type: ignore[arg-type]
        lifespan_context={},
        protocol_version="2026-07-28",
        method="tools/call",
        params=params,
        request_id=1,
    )
    with bind_request_context(request), _serving_client_tool_call():
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Start the Redis, and take the place of fastmcp-tasks before a test file imports it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    redis = EmbeddedRedis(_HOME)
    EngineTasks.redis_url = redis.start()
    config.add_cleanup(redis.stop)
    fastmcp_tasks.TasksExtension = fastmcp_tasks.extension.TasksExtension = EngineTasks  # type: ignore[misc,assignment]
    handlers: Any = fastmcp_tasks.handlers
    handlers.tasks_get, handlers.tasks_update, handlers.tasks_cancel = _get, _update, _cancel


def pytest_sessionstart() -> None:
    """Before test files import helpers by name."""
    _helpers()._opted_in_request = _opted_in_request


@pytest.fixture(autouse=True)
def _count_tasks(record_property: Any) -> Iterator[None]:
    before = EngineTasks.created
    yield
    record_property("tasks", EngineTasks.created - before)
