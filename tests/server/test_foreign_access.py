"""Every way to something that belongs to a caller, tried by everybody else: none learns or changes anything.

TASKMILL_TEST_LONG: with everything that she has for every stranger, some 3,500 accesses.

The ways are read from the code: the routes of the application, the methods of the server, those of earlier revisions,
the follow-up tools. A route or method that is new fails here until a row says how to try it.
"""

import inspect
import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel
from redis.asyncio import Redis
from starlette.routing import BaseRoute

from taskmill.cli.serving.console import console_of
from taskmill.engine.artifact import ARTIFACT_URI, OUTPUT_URI
from taskmill.engine.principal import new_task_id, principal_of
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.auth.operators import operators_of
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS
from taskmill.server.handlers.tasks_2025 import Tasks2025
from taskmill.server.protocol.sdk_private import lowlevel_of
from taskmill.server.settings import ServerSettings
from tests.server.api_client import ADA, POST, bearer, client_with
from tests.server.session_client import Session, next_frame, open_session
from tests.support.redis_server import PrivateRedis
from tests.support.replica import Json, Rpc, serving, working
from tests.support.tokens import guarded_options

SECRET = "adas-own-words"
READER, ACTOR, SCRAPER = "r" * 16, "a" * 16, "s" * 16
STRANGERS: dict[str, str | None] = {
    "another user": "issuer/app/bob",
    "another client": "issuer/web/ada",
    "another issuer": "evil/app/ada",
    "no token": None,
    "no good token": "nonsense",
    "an operator for metrics": SCRAPER,
}
OPEN = ("/.well-known/oauth-protected-resource/mcp", "/healthz", "/readyz", "/api/openapi.json")
"""What anybody may read; nothing of a caller's is in it."""
KEY = "key-of-adas-order"


class Person(BaseModel):
    name: str


async def who() -> Elicit[Person]:
    return Elicit("Who?", Person)


async def pieces(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


def make(settings: ServerSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Foreign", store=settings, **guarded_options())

    @mcp.tool(task=True)
    async def keep(text: str, ctx: Context[Any, Any]) -> str:
        ctx.report_progress(1, 2, text)
        await ctx.emit(text)
        link = await ctx.attach(pieces(text), name=f"{text}.txt", mime_type="text/plain")
        await ctx.set_state("word", text, scope="principal")
        return f"{text} {link.uri}"

    @mcp.tool(task=TaskConfig(park_after=None))
    async def ask(text: str, ctx: Context[Any, Any]) -> str:
        return str(await ctx.elicit(text, Person))

    @mcp.tool(task=True)
    async def fail(text: str) -> str:
        raise RuntimeError(text)

    @mcp.tool(task=TaskConfig(idempotency="_meta"))
    async def order(text: str) -> str:
        return text

    @mcp.tool(task=True)
    async def greet(person: Annotated[Person, Resolve(who)]) -> str:
        return person.name

    @mcp.tool()
    async def recall(ctx: Context[Any, Any]) -> str:
        return str(await ctx.get_state("word", "nothing", scope="principal"))

    @mcp.tool()
    async def tell(text: str, ctx: SdkContext[Any, Any]) -> str:
        await ctx.report_progress(1, 2, text)
        return text

    return mcp


@dataclass
class Owned:
    """What Ada has, by the name of a parameter in a path, and what else is hers."""

    session: Session
    last_event: str
    request_state: str
    cursors: list[str]
    ids: dict[str, list[str]]
    answers: Json = field(default_factory=dict)

    def in_short(self) -> "Owned":
        """One of each kind."""
        return replace(self, ids={name: some[:1] for name, some in self.ids.items()}, cursors=self.cursors[:1])

    @property
    def names(self) -> list[str]:
        """Ids that nobody else may learn."""
        return [*self.ids["task_id"], *self.ids["artifact_id"], str(self.session.id)]


@dataclass
class Place:
    url: str
    server: TaskServer[Any]
    routes: list[tuple[str, str]]
    owned: Owned
    tried: int = 0

    @property
    def address(self) -> str:
        return self.url.removesuffix("/mcp")


@pytest.fixture(params=["at home", "on a shard"])
async def place(request: pytest.FixtureRequest, redis: Redis, redis_url: str) -> AsyncIterator[Place]:
    """A server and what Ada has on it: on one Redis, and with all her tasks on another one than her sessions."""
    tokens = f"read:{READER} act:{ACTOR} metrics:{SCRAPER}"
    settings = ServerSettings(redis_url=redis_url, operator_tokens=tokens, audit="redis", request_rate=0)
    with PrivateRedis(appendonly="yes", appendfsync="no") if request.param == "on a shard" else nullcontext() as other:
        if other is not None:
            settings = settings.model_copy(update={"shards": {"far": other.url}, "queue_shards": {"default": "far"}})
        async with placed(settings) as found:
            yield found


@asynccontextmanager
async def placed(settings: ServerSettings) -> AsyncIterator[Place]:
    server = make(settings)
    app = server.http_app()
    app.router.routes.append(console_of(lambda: server.store, operators_of(settings), settings, facts={}))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(app)) + "/mcp"
        await stack.enter_async_context(working(make(settings), settings))
        owned = await what_ada_has(url)
        yield Place(url, server, sorted(set(routes_of(app.routes))), owned)


async def what_ada_has(url: str) -> Owned:
    ada = client_with(url, ADA)
    kept, failed, asking = [await ada.task(tool, text=SECRET) for tool in ("keep", "fail", "ask")]
    ordered = await ada.ask("tools/call", order_of(SECRET), name="order")
    await ada.done(ordered["result"]["taskId"])
    result = (await ada.done(kept))["result"]["content"][0]["text"]
    await ada.done(failed)
    questions = (await ada.until(asking, "input_required"))["inputRequests"]
    asked = (await ada.ask("tools/call", {"name": "greet", "arguments": {}}, name="greet"))["result"]
    session = await open_session(ada.http, url)
    async with session.streaming(
        "tools/call", name="tell", arguments={"text": SECRET}, _meta={"progressToken": "t"}
    ) as frames:
        last_event = (await next_frame(frames)).id
    task = await session.task("ask", text=SECRET)
    pages = [
        (await ada.http.get(url.replace("/mcp", "/api/tasks?limit=1"))).json()["next_cursor"],
        (await session.ask("tasks/list"))["result"].get("nextCursor"),
    ]
    ids = {
        "task_id": [kept, failed, asking, task["taskId"]],
        "artifact_id": [result.rpartition("/")[2]],
        "name": ["default", "keep"],
        "path": ["/mcp"],
        "kind": ["queues"],
        "action": ["cancel", "rerun", "drain"],
        "part": ["tasks"],
    }
    answers = {key: {"action": "accept", "content": {"name": "Eve"}} for key in questions}
    return Owned(session, str(last_event), asked["requestState"], [one for one in pages if one], ids, answers)


def order_of(text: str) -> Json:
    return {"name": "order", "arguments": {"text": text}, "_meta": {"io.taskmill/idempotencyKey": KEY}}


def routes_of(routes: Iterable[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, mounted ones behind their guards too."""
    for route in routes:
        path = before + str(getattr(route, "path", ""))
        inner: Any = route
        while inner is not None and not getattr(inner, "routes", None):
            inner = getattr(inner, "app", None) or getattr(inner, "_app", None)
        if inner is not None and inner.routes:
            yield from routes_of(inner.routes, path)
        elif path != "/mcp":
            methods = getattr(route, "methods", None) or {"GET"}
            yield from ((method, path) for method in methods - {"HEAD", "OPTIONS"})


def bodies(owned: Owned) -> dict[str, Json]:
    """What is sent to each path that takes something."""
    everything = {"action": "cancel", "where": {}, "all": True}
    paused = {"reason": "because"}
    return {
        "/api/tasks/{task_id}/cancel": {},
        "/api/tasks/{task_id}/rerun": {},
        "/api/tasks/{task_id}/answers": {"answers": owned.answers},
        "/api/queues/{name}/pause": paused,
        "/api/queues/{name}/resume": {},
        "/api/tools/{name}/pause": paused,
        "/api/tools/{name}/resume": {},
        "/api/workers/{name}/drain": {},
        "/api/workers/{name}/resume": {},
        "/api/workers/{name}/slots": {"slots": 1},
        "/api/webhooks/retry": {},
        "/api/webhooks/{task_id}/retry": {},
        "/api/bulk": everything,
        "/api/bulk/run": {**everything, "token": "made up"},
        "/console/login": {"token": "made up"},
        "/console/logout": {},
        "/console/tasks/{task_id}/answer": {"key": next(iter(owned.answers)), "action": "decline"},
        "/console/tasks/{task_id}/{action:str}": {"confirmed": "1"},
        "/console/bulk/{action:str}": {"confirmed": "1"},
        "/console/webhooks/retry": {},
        "/console/webhooks/{task_id}/retry": {},
        "/console/workers/{name:path}/{action:str}": {"confirmed": "1"},
        "/console/{kind:str}/{name:path}/pause": {"confirmed": "1", **paused},
        "/console/{kind:str}/{name:path}/resume": {"confirmed": "1"},
    }


def requests_of(method: str, path: str, owned: Owned) -> Iterator[tuple[str, Json]]:
    """Path and further arguments of each request for a route.

    Raises:
        LookupError: nothing here says what to send.
    """
    paths = [path]
    for name in re.findall(r"{(\w+)", path):
        paths = [re.sub(rf"{{{name}(:\w+)?}}", value, one) for one in paths for value in owned.ids[name]]
    for one in paths:
        if method == "POST":
            body = bodies(owned)[path]
            is_form = path.startswith("/console")
            yield one, {"data": body} if is_form else {"content": json.dumps(body), "headers": POST}
            continue
        yield one, {}
        yield one, {"headers": {"last-event-id": "1"}}
        digest = principal_of("issuer", "app", "ada")
        for cursor in owned.cursors:
            yield one, {"params": {"history": "1", "after": "0", "cursor": cursor, "caller": digest}}
        yield one, {"params": {"history": "1", "after": "0"}}


async def reply_of(http: httpx2.AsyncClient, method: str, url: str, given: Json) -> tuple[int, str]:
    """Status, and all headers and the body as text; of a stream its first two seconds."""
    text = ""
    async with http.stream(method, url, **given) as response:
        with anyio.move_on_after(2):
            async for part in response.aiter_text():
                text += part
        shown = " ".join(f"{name}: {value}" for name, value in response.headers.items() if name != "date")
        return response.status_code, f"{shown}\n{text}"


def check(place: Place, sent: object, reply: str) -> None:
    """Nothing of Ada's is in a reply, but for the ids that were sent."""
    place.tried += 1
    given = json.dumps(sent)
    assert SECRET not in reply, sent
    assert [one for one in place.owned.names if one in reply and one not in given] == [], sent


async def try_routes(place: Place, token: str | None) -> None:
    unknown = new_task_id()
    async with httpx2.AsyncClient(headers=bearer(token), timeout=30) as http:
        for method, path in place.routes:
            for one, given in requests_of(method, path, place.owned):
                status, reply = await reply_of(http, method, place.address + one, given)
                check(place, [method, one, given], reply)
                if path in OPEN or path.startswith("/console") or (path == "/metrics" and token == SCRAPER):
                    continue
                mine = next((name for name in place.owned.names if name in one), None)
                if mine is None:
                    assert status in (200, 400, 401, 403), (method, one, reply)
                    continue
                assert status in (401, 403, 404), (method, one, reply)
                place.tried += 1
                other = await reply_of(http, method, place.address + one.replace(mine, unknown), given)
                assert (other[0], other[1].replace(unknown, mine)) == (status, reply), "foreign is the same as unknown"


def params_of(method: str, owned: Owned) -> Iterator[tuple[Json, str | None]]:
    """Parameters and `Mcp-Name` of each request of the revision of 2026.

    Raises:
        LookupError: nothing here says what to send.
    """
    tasks = owned.ids["task_id"]
    uris = [f"{ARTIFACT_URI}{one}" for one in owned.ids["artifact_id"]]
    uris += [f"{OUTPUT_URI}{one}/output" for one in tasks]
    followed = {"task_answer": {"answers": {"name": "Eve"}}}
    calls: list[Json] = [
        {"name": tool, "arguments": {"task_id": one, **followed.get(tool, {})}}
        for tool in FOLLOW_UP_TOOLS
        for one in tasks
    ]
    calls += [order_of("words of another"), {"name": "recall", "arguments": {}}]
    answer = {"inputResponses": {"who": {"action": "accept", "content": {"name": "Eve"}}}}
    calls.append({"name": "greet", "arguments": {}, "requestState": owned.request_state, **answer})
    rows: dict[str, list[tuple[Json, str | None]]] = {
        "tasks/get": [({"taskId": one}, one) for one in tasks],
        "tasks/update": [({"taskId": one, "inputResponses": owned.answers}, one) for one in tasks],
        "tasks/cancel": [({"taskId": one}, one) for one in tasks],
        "resources/read": [({"uri": uri}, uri) for uri in uris],
        "tools/call": [(call, call["name"]) for call in calls],
        "prompts/get": [({"name": tasks[0]}, tasks[0])],
        "subscriptions/listen": [],  # see `listen`
    }
    lists = ("prompts/list", "resources/list", "resources/templates/list", "tools/list", "server/discover", "ping")
    rows |= {name: [({}, None)] for name in lists}
    yield from rows[method]


async def try_methods(place: Place, token: str | None) -> None:
    rpc = client_with(place.url, token)
    methods = sorted(lowlevel_of(place.server)._request_handlers)
    for method in methods:
        for params, name in params_of(method, place.owned):
            for client in (rpc, rpc.without_tasks()):
                reply = await client.post(method, params, name=name)
                check(place, params, str(reply.headers) + reply.text)
                if "taskId" in params:
                    assert "result" not in reply.text
    await listen(place, rpc)


async def listen(place: Place, rpc: Rpc) -> None:
    async with rpc.listen(taskIds=place.owned.ids["task_id"]) as frames:
        with anyio.fail_after(30):
            first = await anext(frames)
        check(place, place.owned.ids["task_id"], json.dumps(first))
        assert first.get("params", {}).get("notifications", {}) == {}


async def try_sessions(place: Place, token: str | None) -> None:
    """The revisions before 2026: Ada's session, and one of the stranger's own with what is hers."""
    owned, http = place.owned, client_with(place.url, token).http
    stolen = Session(http, place.url, owned.session.id, owned.session.revision)
    sessions = [stolen]
    if token is not None and token.count("/") == 2:
        sessions.append(await open_session(http, place.url))
    methods = set(re.findall(r'case "(tasks/\w+)"', inspect.getsource(Tasks2025.__call__)))
    assert methods == {"tasks/get", "tasks/result", "tasks/list", "tasks/cancel"}, "write a row for the new one"
    for session in sessions:
        for method in (*sorted(methods), *FOLLOW_UP_TOOLS):
            for one in owned.ids["task_id"]:
                params = {"taskId": one}
                if method == "tasks/list":
                    params = {"cursor": owned.cursors[-1]}
                if method in FOLLOW_UP_TOOLS:
                    more = {"answers": {"name": "Eve"}} if method == "task_answer" else {}
                    params = {"name": method, "arguments": {"task_id": one, **more}}  # type: ignore[dict-item]
                body = session.request("tools/call" if method in FOLLOW_UP_TOOLS else method, **params)
                reply = await session.post(body)
                check(place, body, str(reply.headers) + reply.text)
        for event in (owned.last_event, "0-0"):
            headers = session.headers(last_event_id=event)
            status, text = await reply_of(http, "GET", place.url, {"headers": headers})
            check(place, headers, text)
            assert status >= 400 or session is not stolen
    assert (await http.delete(place.url, headers=stolen.headers())).status_code in (401, 403, 404)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.requirement("owner-only", "unknown-id", "own-streams-only")
async def test_nobody_learns_or_changes_anything_of_another_caller_by_any_route_or_method(place: Place) -> None:
    before, whole = await state_of(place), place.owned
    for number, token in enumerate(STRANGERS.values()):
        # In short, the others try one of each kind of what she has.
        place.owned = whole if number == 0 or os.environ.get("TASKMILL_TEST_LONG") else whole.in_short()
        await try_routes(place, token)
        await try_methods(place, token)
        await try_sessions(place, token)
    print(f"{place.tried} foreign accesses by {len(STRANGERS)} strangers, no leak")
    assert place.tried > 1000
    place.owned = whole
    assert await state_of(place) == before
    assert (await place.owned.session.ask("ping"))["result"] == {}
    recalled = await client_with(place.url, ADA).call("recall")
    assert recalled["result"]["content"][0]["text"] == SECRET


async def test_an_operator_who_may_read_changes_nothing_by_any_route(place: Place) -> None:
    before = await state_of(place)
    async with httpx2.AsyncClient(headers=bearer(READER), timeout=30) as http:
        for method, path in place.routes:
            if method == "POST" and path not in ("/console/login", "/console/logout"):
                for one, given in requests_of(method, path, place.owned):
                    status, reply = await reply_of(http, method, place.address + one, given)
                    assert status in (303, 401, 403) or path == "/api/bulk", (one, status, reply)
    assert await state_of(place) == before


async def state_of(place: Place) -> list[Json]:
    """Ada's tasks with their events, as she sees them; that she does is the proof that there was something to find."""
    async with httpx2.AsyncClient(headers=bearer(ADA), timeout=30) as http:
        found = []
        for one in place.owned.ids["task_id"]:
            path = f"{place.address}/api/tasks/{one}"
            found.append((await http.get(path, params={"history": "1"})).json())
        texts = [json.dumps(task) for task in found]
        assert sum(SECRET in text for text in texts) >= 2
        assert SECRET in (await http.get(f"{place.address}/api/artifacts/{place.owned.ids['artifact_id'][0]}")).text
    return found


async def test_a_route_or_method_without_a_row_is_noticed(place: Place) -> None:
    with pytest.raises(LookupError):
        list(requests_of("POST", "/api/tasks/{task_id}/share", place.owned))
    with pytest.raises(LookupError):
        list(requests_of("GET", "/api/secrets/{secret_id}", place.owned))
    with pytest.raises(LookupError):
        list(params_of("tasks/share", place.owned))
