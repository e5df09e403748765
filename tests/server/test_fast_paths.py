"""Requests that a fast path answers: the same request gets the same answer with and without it.

Every request here is sent to two replicas of one deployment, one with the fast paths and one without, and the whole
responses are compared: status, headers, body. Also, every fast answer of `tasks/*`, in all the tests of this
folder, is compared with the SDK's (`fast_path_comparison.py`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Mount

import taskmill.server.fast_path.middleware as fast_paths
import taskmill.server.fast_path.requests as fast_requests
from taskmill.engine.errors import StoreUnavailable
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import TaskStore
from tests.support.replica import REVISION, TASKS, Json, Rpc, client_of, serving, working
from tests.support.sample_server import make_server

META = "io.modelcontextprotocol/"


class Pair:
    """The same client of two replicas."""

    def __init__(self, fast: Rpc, slow: Rpc) -> None:
        self.fast = fast
        self.slow = slow

    async def same(
        self, change: Callable[[Json, Json], Any], task_id: str, method: str = "tasks/get", **more: Any
    ) -> httpx2.Response:
        """A request, changed in headers and body before it is sent; the answer, which must be the same from both.

        `more`: parameters besides the task id; for a call, what there is instead of it.
        """
        answers = []
        params = more if method == "tools/call" else {"taskId": task_id, **more}
        for rpc in (self.fast, self.slow):
            parts = rpc.request(method, params, name=more.get("name", task_id))
            body = json.loads(parts["content"])
            changed = change(parts["headers"], body)
            content = changed if isinstance(changed, bytes) else json.dumps(body).encode()
            answers.append(await rpc.http.post(rpc.url, content=content, headers=parts["headers"]))
        fast, slow = answers
        assert (fast.status_code, shown(fast), said(fast)) == (slow.status_code, shown(slow), said(slow))
        return fast


def shown(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}


def said(answer: httpx2.Response) -> Any:
    """The body, without what differs between any two tasks."""
    if answer.headers.get("content-type") != "application/json":
        return answer.text
    body = answer.json()
    body.get("result", {}).pop("requestState", None)  # sealed, so that no two are alike
    if body.get("result", {}).get("resultType") == "task":
        assert all(body["result"].pop(own) for own in ("taskId", "createdAt", "lastUpdatedAt", "statusMessage"))
    return body


@pytest.fixture
async def pair(redis: Redis, settings: ServerSettings) -> AsyncIterator[Pair]:
    """Two replicas, a client of each, and a worker."""
    async with (
        client_of(make_server(settings)) as fast,
        client_of(make_server(settings), fast_paths=False) as slow,
        working(make_server(settings), settings),
    ):
        yield Pair(fast, slow)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each request whose headers allow a fast path: whether the fast path answered it."""
    ways: list[bool] = []
    reply = fast_paths.FastPath._reply

    async def watched(self: Any, message: Any, headers: Any, scope: Any) -> tuple[int, bytes] | None:
        answer = await reply(self, message, headers, scope)
        ways.append(answer is not None)
        return answer

    monkeypatch.setattr(fast_paths.FastPath, "_reply", watched)
    return ways


def nothing(headers: Json, body: Json) -> None:
    """A correct poll."""


def test_the_fast_paths_are_for_the_revision_of_the_tests() -> None:
    assert fast_requests.LATEST_MODERN_VERSION == REVISION
    assert fast_requests.EXTENSION == TASKS


async def test_a_task_in_any_state_reads_the_same_with_and_without_fast_paths(pair: Pair, answered: list[bool]) -> None:
    running = await pair.fast.task("stay")
    ended = await pair.fast.task("facts")
    refused = await pair.fast.task("complain", how="protocol")
    asking = await pair.fast.task("ask")
    await pair.fast.done(ended)
    await pair.fast.done(refused)
    await pair.fast.until(asking, "input_required")
    cancelled = await pair.fast.task("stay")
    await pair.fast.ask("tasks/cancel", {"taskId": cancelled}, name=cancelled)
    while "settling in" not in (await pair.fast.get(running))["result"]["statusMessage"]:
        await asyncio.sleep(0.01)
    answered.clear()

    for task_id in (running, ended, refused, asking, cancelled):
        answer = await pair.same(nothing, task_id)
        assert answer.json()["result"]["taskId"] == task_id
        assert answer.json()["result"]["resultType"] == "complete"

    assert answered == [True] * 5


def without(*path: str) -> Callable[[Json, Json], None]:
    """A poll whose body lacks something."""

    def change(headers: Json, body: Json) -> None:
        at = body
        for name in path[:-1]:
            at = at[name]
        del at[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[Json, Json], None]:
    """A poll with something else, or something more, in its body."""

    def change(headers: Json, body: Json) -> None:
        at = body
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value

    return change


def headed(**values: str | None) -> Callable[[Json, Json], None]:
    """A poll with other headers, None = left out."""

    def change(headers: Json, body: Json) -> None:
        for name, value in values.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value

    return change


META_PATH = ("params", "_meta")
ODD: dict[str, Callable[[Json, Json], Any]] = {
    "no name header": headed(mcp_name=None),
    "another name header": headed(mcp_name="another"),
    "a name in base64": headed(mcp_name="=?base64?YQ==?="),
    "another method header": headed(mcp_method="tools/list"),
    "no method header": headed(mcp_method=None),
    "an unknown revision": headed(mcp_protocol_version="2030-01-01"),
    "a revision before tasks": headed(mcp_protocol_version="2025-06-18"),
    "another revision in the body": put("2025-11-25", *META_PATH, f"{META}protocolVersion"),
    "no revision in the body": without(*META_PATH, f"{META}protocolVersion"),
    "no capabilities": without(*META_PATH, f"{META}clientCapabilities"),
    "capabilities that are none": put([], *META_PATH, f"{META}clientCapabilities"),
    "no extension": put({}, *META_PATH, f"{META}clientCapabilities"),
    "an extension that is no object": put({"extensions": {TASKS: 1}}, *META_PATH, f"{META}clientCapabilities"),
    "a wrong capability": put({"extensions": {TASKS: {}}, "elicitation": 7}, *META_PATH, f"{META}clientCapabilities"),
    "an extension with words in it": put({"extensions": {TASKS: {"a": "ä"}}}, *META_PATH, f"{META}clientCapabilities"),
    "half a surrogate pair in an extension": put(
        {"extensions": {TASKS: {}, "\ud800": {}}}, *META_PATH, f"{META}clientCapabilities"
    ),
    "an extension that is nothing": put(
        {"extensions": {TASKS: {}, "x": None}}, *META_PATH, f"{META}clientCapabilities"
    ),
    "a client's name that is a number": put({"name": 1, "version": "1"}, *META_PATH, f"{META}clientInfo"),
    "half a surrogate pair in the client's name": put(
        {"name": "\ud800", "version": "1"}, *META_PATH, f"{META}clientInfo"
    ),
    "a client with a title": put({"name": "x", "version": "1", "title": "X"}, *META_PATH, f"{META}clientInfo"),
    "a client without a version": put({"name": "x"}, *META_PATH, f"{META}clientInfo"),
    "a progress token": put("token", *META_PATH, "progressToken"),
    "a trace": headed(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "no accept": headed(accept="text/html"),
    "only JSON": headed(accept="application/json"),
    "anything": headed(accept="*/*"),
    "another content type": headed(content_type="text/plain"),
    "a strange host": headed(host="evil.example"),
    "a strange origin": headed(origin="http://evil.example"),
    "an unknown task": put("unknown", "params", "taskId"),
    "a task id that is a number": put(7, "params", "taskId"),
    "a long task id": put("x" * 300, "params", "taskId"),
    "no task id": without("params", "taskId"),
    "one more parameter": put(1, "params", "extra"),
    "one more member": put(1, "extra"),
    "an id that is null": put(None, "id"),
    "an id that is true": put(True, "id"),
    "an id that is a fraction": put(1.5, "id"),
    "an id of words": put("words", "id"),
    "a huge id": put(10**30, "id"),
    "no id": without("id"),
    "another JSON-RPC": put("1.0", "jsonrpc"),
    "another method": put("tasks/cancel", "method"),
    "params that are a list": put([], "params"),
    "a batch": lambda headers, body: json.dumps([body]).encode(),
    "no JSON": lambda headers, body: b"{",
    "nothing": lambda headers, body: b"",
    "no UTF-8": lambda headers, body: b"\xff",
    "UTF-16": lambda headers, body: json.dumps(body).encode("utf-16"),
    "deep": lambda headers, body: b"[" * 50_000,
    "large": lambda headers, body: json.dumps(body | {"pad": "x" * 100_000}).encode(),
    "spaces around": lambda headers, body: b"  " + json.dumps(body).encode() + b"\n",
    "a member twice": lambda headers, body: json.dumps(body).replace('"id": 1', '"id": 2, "id": 1').encode(),
}


async def test_unusual_requests_get_the_same_answer_with_and_without_fast_paths(pair: Pair) -> None:
    task_id = await pair.fast.task("stay")
    while "settling in" not in (await pair.fast.get(task_id))["result"]["statusMessage"]:
        await asyncio.sleep(0.01)
    for what, change in ODD.items():
        try:
            await pair.same(change, task_id)
        except AssertionError as different:
            raise AssertionError(what) from different


@pytest.mark.parametrize(("method", "more"), [("tasks/cancel", {}), ("tasks/update", {"inputResponses": {"x": 1}})])
async def test_unusual_requests_that_change_a_task_get_the_same_answer(
    pair: Pair, method: str, more: Json, answered: list[bool]
) -> None:
    task_id = await pair.fast.task("ask")
    answered.clear()
    assert (await pair.same(nothing, task_id, method, **more)).json()["result"]["resultType"] == "complete"
    assert answered == [True]
    oddities = ODD | {"answers that are a list": put([], "params", "inputResponses")}
    for what, change in oddities.items():
        try:
            await pair.same(change, task_id, method, **more)
        except AssertionError as different:
            raise AssertionError(what) from different


CALLS: dict[str, Callable[[Json, Json], Any]] = {
    "an unknown tool": put("nothing", "params", "name"),
    "a tool that is no task": put("hello", "params", "name"),
    "a tool that asks before it starts": put("greet_later", "params", "name"),
    "a tool that runs only as a task": put("strict", "params", "name"),
    "a name that is a number": put(7, "params", "name"),
    "no arguments": without("params", "arguments"),
    "arguments that are null": put(None, "params", "arguments"),
    "arguments that are a list": put([], "params", "arguments"),
    "an argument too many": put({"count": 1, "more": 1}, "params", "arguments"),
    "an argument of the wrong kind": put({"count": "many"}, "params", "arguments"),
    "an argument missing": put({}, "params", "arguments"),
    "arguments too large": put({"count": 1, "more": "x" * 20_000}, "params", "arguments"),
    "half a surrogate pair": put({"count": 1, "\ud800": 1}, "params", "arguments"),
    "the task member of an earlier revision": put({}, "params", "task"),
    "a state": put("sealed", "params", "requestState"),
    "answers": put({}, "params", "inputResponses"),
    "an argument in a header": headed(mcp_param_count="1"),
    "an idempotency key": put("k", "params", "_meta", "io.taskmill/idempotencyKey"),
    "a name in base64 that is right": headed(mcp_name="=?base64?c3RlcHM=?="),
}


async def test_unusual_calls_get_the_same_answer(pair: Pair, answered: list[bool]) -> None:
    call = {"name": "steps", "arguments": {"count": 1}}
    assert (await pair.same(nothing, "", "tools/call", **call)).json()["result"]["resultType"] == "task"
    assert answered == [True]

    def named(change: Callable[[Json, Json], Any]) -> Callable[[Json, Json], Any]:
        def both(headers: Json, body: Json) -> Any:
            """The header says what the body says, so that more than their difference is looked at."""
            changed = change(headers, body)
            if changed is None and headers.get("mcp-name") == "steps" and isinstance(body["params"], dict):
                headers["mcp-name"] = str(body["params"].get("name"))
            return changed

        return both

    for what, change in {**ODD, **CALLS, "no task id": without("params", "name")}.items():
        try:
            await pair.same(named(change), "", "tools/call", **call)
        except AssertionError as different:
            raise AssertionError(what) from different


async def test_a_call_over_a_quota_gets_the_same_error(redis: Redis, settings: ServerSettings) -> None:
    narrow = settings.model_copy(update={"open_limit": 1})
    async with client_of(make_server(narrow)) as fast, client_of(make_server(narrow), fast_paths=False) as slow:
        await fast.task("stay")
        answer = await Pair(fast, slow).same(nothing, "", "tools/call", name="stay", arguments={})
    assert answer.json()["error"]["data"]["limit"] == "open_tasks"


async def test_a_task_is_stored_the_same_with_and_without_fast_paths(redis: Redis, settings: ServerSettings) -> None:
    """Arguments, policy, and what the worker receives about the client."""
    keys = Keys(settings.prefix)
    async with client_of(make_server(settings)) as fast, client_of(make_server(settings), fast_paths=False) as slow:
        for tool, arguments in {"strict": {}, "steps": {"count": 3}, "plain": {"text": "ä"}}.items():
            stored = []
            for rpc in (fast, slow):
                task_id = await rpc.task(tool, **arguments)
                record: dict[bytes, bytes] = await redis.hgetall(keys.record(task_id))  # type: ignore[misc]
                own = (b"id", b"created_ms", b"updated_ms", b"deadline_ms")
                kept = {name: value for name, value in record.items() if name not in own}
                stored.append((kept, await redis.get(keys.args(task_id))))
            assert stored[0] == stored[1]


async def test_a_task_whose_reply_was_lost_is_made_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, redis: Redis, settings: ServerSettings
) -> None:
    """The fast path itself sends the error: the SDK would make a second task."""
    create = RedisTaskStore.create

    async def lost(self: RedisTaskStore, task: Any) -> Any:
        await create(self, task)
        raise StoreUnavailable("no reply")

    monkeypatch.setattr(RedisTaskStore, "create", lost)
    reply = await pair.fast.call("strict")
    assert reply["error"]["data"] == {"retryable": True, "reason": "store_unavailable"}
    assert await redis.zcard(Keys(settings.prefix).all) == 1


async def test_an_author_who_puts_middleware_around_methods_sees_every_poll(
    redis: Redis, settings: ServerSettings
) -> None:
    """A fast path must not go around what an author wraps around the server's methods."""
    server = make_server(settings)
    seen: list[str] = []

    async def watch(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx.method)
        return await call_next(ctx)

    server.middleware.append(watch)
    async with client_of(server) as rpc:
        await rpc.get(await rpc.task("stay"))
    assert seen == ["tools/call", "tasks/get"]


async def test_an_author_who_puts_middleware_around_the_application_sees_every_poll(
    redis: Redis, settings: ServerSettings, answered: list[bool]
) -> None:
    """It may check the caller; the fast paths stand behind it."""
    app = make_server(settings).http_app()
    seen: list[str] = []

    class Watch:
        def __init__(self, app: Any) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await self._app(scope, receive, send)

    app.add_middleware(Watch)
    async with serving(app) as address, httpx2.AsyncClient() as http:
        rpc = Rpc(http, address + "/mcp")
        await rpc.get(await rpc.task("stay"))
    assert (seen, answered) == (["lifespan", "http", "http"], [True, True])


@pytest.mark.parametrize(("path", "is_fast"), [("/mcp", True), ("/mcp/", True), ("/other", False)])
async def test_only_the_endpoint_has_fast_paths(
    redis: Redis, settings: ServerSettings, answered: list[bool], path: str, is_fast: bool
) -> None:
    """Also where the application is mounted in another one."""
    app = make_server(settings).http_app()
    outer = Starlette(routes=[Mount("/tools", app)], lifespan=app.router.lifespan_context)
    async with serving(outer) as address, httpx2.AsyncClient(follow_redirects=False) as http:
        rpc = Rpc(http, f"{address}/tools{path}")
        answer = await rpc.post("tasks/get", {"taskId": "unknown"}, name="unknown")
    assert (len(answered), answer.status_code) == ((1, 400) if is_fast else (0, 404))


async def test_a_fast_answer_is_counted_like_any_other(redis: Redis, settings: ServerSettings) -> None:
    async with client_of(make_server(settings)) as rpc:
        await rpc.get(await rpc.task("stay"))
        told = await rpc.http.get(rpc.url.removesuffix("/mcp") + "/metrics")
    assert 'taskmill_http_requests_total{method="POST",part="mcp",status="200"} 2.0' in told.text


async def test_an_operators_token_reaches_only_its_check(
    redis: Redis, settings: ServerSettings, answered: list[bool]
) -> None:
    """On a server without users, where the fast paths stand before that check."""
    token = "0123456789abcdef-operator"
    async with client_of(make_server(settings), operator_token=token) as rpc:
        task_id = await rpc.task("stay")
        answered.clear()
        answer = await rpc.post("tasks/get", {"taskId": task_id}, name=task_id, authorization=f"Bearer {token}")
    assert (answer.status_code, answered) == (200, [])


async def test_the_sdk_answers_when_the_store_fails(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await pair.fast.task("stay")

    async def broken(self: TaskStore, task_id: str, principal: str) -> Any:
        raise fast_paths.TaskmillError("no store")

    monkeypatch.setattr(RedisTaskStore, "read", broken)
    answer = await pair.same(nothing, task_id)
    assert answer.json()["error"]["code"] == -32603
