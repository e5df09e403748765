"""`/api/openapi.json`: open to all callers, true of routes, states and errors. tests/fuzz holds answers against it."""

from typing import Any

from redis.asyncio import Redis

from taskmill.engine.status import Status
from taskmill.server.api.errors import _STATUSES
from taskmill.server.settings import ServerSettings
from tests.support.replica import client_of
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


async def described(settings: ServerSettings, **headers: str) -> tuple[int, Any]:
    async with client_of(make_server(settings, **guarded_options()), operator_token="0123456789abcdef") as rpc:
        reply = await rpc.http.get(rpc.url.replace("/mcp", "/api/openapi.json"), headers=headers)
        return reply.status_code, reply.json()


async def test_any_caller_that_uses_an_allowed_host_may_read_it(redis: Redis, settings: ServerSettings) -> None:
    assert (await described(settings))[0] == 200
    assert (await described(settings, authorization="Bearer nonsense"))[0] == 200
    assert (await described(settings, host="evil.example"))[0] == 421


async def test_it_describes_exactly_the_routes(redis: Redis, settings: ServerSettings) -> None:
    app = make_server(settings).http_app()
    (mount,) = [route for route in app.router.routes if getattr(route, "path", "") == "/api"]
    inside: Any = mount.app._app
    there = {(route.path, method) for route in inside.routes for method in route.methods - {"HEAD"}}
    _, description = await described(settings)
    told = {
        (path, method.upper()) for path, item in description["paths"].items() for method in item.keys() - {"parameters"}
    }
    assert told == there


async def test_it_describes_exactly_the_states_and_errors(redis: Redis, settings: ServerSettings) -> None:
    _, description = await described(settings)
    assert description["components"]["schemas"]["Status"]["enum"] == [status.value for status in Status]
    answers = [
        operation["responses"]
        for item in description["paths"].values()
        for name, operation in item.items()
        if name != "parameters"
    ]
    assert {str(status) for status, _ in _STATUSES.values()} <= set().union(*answers)
    codes = dict(_STATUSES.values())
    texts = {answer["description"] for answer in description["components"]["responses"].values()}
    assert [code for code in codes.values() if not any(f"`{code}`" in text for text in texts)] == []
