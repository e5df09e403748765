"""What is attacked: replicas of one deployment in this process, over a real Redis, with a real worker, and their state.

Three applications: `guarded` wants tokens, `open` knows nobody, `plain` is `guarded` without the short way for polls.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.fuzz.asgi import Answer, Asked, exchange
from tests.fuzz.server import make_server
from tests.fuzz.valid_requests import api, legacy, messages, modern
from tests.support.invariants import Found, read_redis
from tests.support.replica import working
from tests.support.tokens import guarded_options

__all__ = ["ADA", "BOB", "OPERATOR_TOKEN", "Possessions", "Target", "open_target"]

ADA, BOB = "issuer/app/ada", "issuer/app/bob"
OPERATOR_TOKEN = "0123456789abcdef-operator"
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
    "clientInfo": {"name": "fuzz", "version": "1"},
}
_ENDED = ("completed", "failed", "cancelled")


@dataclass
class Possessions:
    """What one caller has, each thing by its id."""

    token: str | None
    done: str = ""
    """A task that has ended, with output and an artifact."""
    failed: str = ""
    """One that can be run again."""
    asking: str = ""
    """One that waits for an answer."""
    question: str = ""
    """The key of its question."""
    stays: str = ""
    """One that runs."""
    artifact: str = ""
    cursor: str = ""
    """Of its list of tasks, '' where it has none."""
    session: str = ""
    open_call: str = ""
    """An event id of a stream of the session."""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Its tasks."""
        return (self.done, self.failed, self.asking, self.stays)


class Target:
    """The applications, the Redis below them, and who has what."""

    def __init__(self, redis: Redis, apps: dict[str, Any]) -> None:
        self.redis = redis
        self.apps = apps
        self.ada = Possessions(ADA)
        self.bob = Possessions(BOB)

    async def send(self, app: str, asked: Asked) -> Answer:
        """One exchange with one application."""
        return await exchange(self.apps[app], asked)

    async def ask(self, app: str, asked: Asked) -> dict[str, Any]:
        """The response to a request that must go well."""
        answer = await self.send(app, asked)
        assert answer.status == 200, (answer.status, answer.body)
        reply = messages(answer)[-1]
        assert "result" in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    async def task(self, app: str, token: str | None, tool: str, **arguments: Any) -> str:
        """A new task."""
        result = await self.ask(app, modern("tools/call", {"name": tool, "arguments": arguments}, token))
        return str(result["taskId"])

    async def until(self, app: str, token: str | None, task_id: str, *statuses: str) -> dict[str, Any]:
        """The task, once it is in one of the states."""
        async with asyncio.timeout(60):
            while True:
                task = await self.ask(app, modern("tasks/get", {"taskId": task_id}, token))
                if task["status"] in statuses:
                    return task
                await asyncio.sleep(0.01)

    async def furnish(self, app: str, owner: Possessions) -> None:
        """Give a caller something of everything."""
        token = owner.token
        owner.session, _ = await self.session(app, token)
        owner.done = await self.task(app, token, "echo", value="mine", count=1)
        owner.failed = await self.task(app, token, "stumble", how="crash")
        owner.asking = await self.task(app, token, "ask")
        owner.stays = await self.task(app, token, "stay")
        await self.until(app, token, owner.done, "completed")
        await self.until(app, token, owner.failed, *_ENDED)
        owner.question = next(iter((await self.until(app, token, owner.asking, "input_required"))["inputRequests"]))
        while "settling in" not in str(await self.until(app, token, owner.stays, "working")):
            await asyncio.sleep(0.01)  # it does not move by itself from here on, nor does the one that asks
        owner.artifact = (await self.redis.smembers("{taskmill}:artifacts:" + owner.done)).pop().decode()  # type: ignore[misc]
        owner.open_call = await self._open_call(app, owner)
        if token is not None:
            page = json.loads((await self.send(app, api("GET", "/api/tasks?limit=1", token))).body)
            owner.cursor = page["next_cursor"]

    async def session(self, app: str, token: str | None) -> tuple[str, dict[str, Any]]:
        """A new session's id, and what the server said of itself."""
        opening = legacy({"id": 0, "method": "initialize", "params": INITIALIZE}, None, token)
        answer = await self.send(app, opening)
        assert answer.status == 200, answer.body
        session = answer.header(b"mcp-session-id")
        initialized = legacy({"method": "notifications/initialized"}, session, token)
        assert (await self.send(app, initialized)).status == 202
        return session, messages(answer)[0]["result"]

    async def _open_call(self, app: str, owner: Possessions) -> str:
        """The first event id of a held call of the owner's session, whose task stays."""
        call = {"id": 77, "method": "tools/call", "params": {"name": "stay", "arguments": {}}}
        answer = await self.send(app, legacy(call, owner.session, owner.token))
        (named, *_) = [line[4:] for line in answer.body.decode().splitlines() if line.startswith("id: ")]
        return named

    async def found(self) -> Found:
        """All of Redis."""
        return await read_redis(self.redis, chunk=500)

    async def serves(self) -> list[str]:
        """What does not work of what always must: a call, a task and a look in each way of speaking."""
        return [fault for app, token in (("guarded", ADA), ("open", None)) for fault in await self._serves(app, token)]

    async def serves_users(self) -> list[str]:
        """The same of the application with users alone."""
        return await self._serves("guarded", ADA)

    async def _serves(self, app: str, token: str | None) -> list[str]:
        hello = {"name": "hello", "arguments": {"name": "you"}}
        session, _ = await self.session(app, token)
        call = {"id": 1, "method": "tools/call", "params": hello}
        calls = (modern("tools/call", hello, token), legacy(call, session, token))
        said = [str(await self.ask(app, one)) for one in calls]
        task_id = await self.task(app, token, "echo", value=7)
        task = await self.until(app, token, task_id, *_ENDED)
        shown = await self.send(app, api("GET", f"/api/tasks/{task_id}", token))
        good = {
            "a call": all("you!" in one for one in said),
            "a task": task["status"] == "completed",
            "the API": shown.status == 200 and json.loads(shown.body)["status"] == "completed",
        }
        return [
            f"{app} no longer serves {what}: {said}, {task}, {shown}" for what, is_good in good.items() if not is_good
        ]


@asynccontextmanager
async def open_target(
    redis: Redis, redis_url: str, *, wrap: Callable[[Any], Any] = lambda app: app
) -> AsyncIterator[Target]:
    """A deployment with tasks in every state; its Redis is emptied first. `wrap`: goes around every application."""
    await redis.flushall()
    settings = ServerSettings(
        redis_url=redis_url, app="", max_arguments=20_000, max_result=20_000, drop_grace=0.05, handoff_after=0.005
    )
    apps: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for name, fast in (("guarded", True), ("open", True), ("plain", False)):
            options = {} if name == "open" else guarded_options()
            app = make_server(settings, **options).http_app(operator_token=OPERATOR_TOKEN, fast_paths=fast)
            await stack.enter_async_context(app.router.lifespan_context(app))
            apps[name] = wrap(app)
        await stack.enter_async_context(working(make_server(settings), settings, concurrency=500))
        target = Target(redis, apps)
        await target.furnish("guarded", target.ada)
        await target.furnish("guarded", target.bob)
        yield target
