"""The HTTP API for people and scripts, as tests call it: with a caller's token, the operator's, or none."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import httpx2

from tests.support.replica import Json, Rpc

OPERATOR_TOKEN = "0123456789abcdef"
ADA, BOB = "issuer/app/ada", "issuer/app/bob"
"""Tokens of two callers."""
POST = {"content-type": "application/json"}


@dataclass
class ApiClient:
    """A replica, and its callers by their token; None = no token."""

    rpc: Rpc

    @property
    def address(self) -> str:
        return self.rpc.url.removesuffix("/mcp")

    def mcp(self, token: str | None) -> Rpc:
        """A client of the MCP endpoint."""
        return client_with(self.rpc.url, token)

    async def get(self, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        return await self.rpc.http.get(self.address + path, headers={**bearer(token), **headers})

    async def post(self, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        return await self.rpc.http.post(self.address + path, headers={**POST, **bearer(token), **headers})

    async def send(self, path: str, body: object, token: str | None) -> tuple[int, Json]:
        """Status and JSON of the reply to a POST with a body."""
        reply = await self.rpc.http.post(self.address + path, json=body, headers={**POST, **bearer(token)})
        return reply.status_code, reply.json()

    async def until(self, task_id: str, *statuses: str, token: str | None = None) -> Json:
        """The task once it is in one of the states."""
        with anyio.fail_after(30):
            while True:
                task: Json = (await self.get(f"/api/tasks/{task_id}", token)).json()
                if task["status"] in statuses:
                    return task
                await anyio.sleep(0.01)


def client_with(url: str, token: str | None) -> Rpc:
    """A client of the MCP endpoint with a token, None = without."""
    return Rpc(httpx2.AsyncClient(headers=bearer(token), timeout=30), url)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of a refusal, which must have the one shape of errors."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"]


def figures_of(text: str) -> dict[str, float]:
    """Prometheus's text by name and labels, without when a counter was made."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines if not name.partition("{")[0].endswith("_created")}


Figures = dict[str, float]


async def figures_once(rpc: Rpc, are_there: Callable[[Figures], bool]) -> Figures:
    """The figures by tool, as soon as they say what is expected."""
    figures: Figures = {}
    with anyio.move_on_after(30):
        while not (figures and are_there(figures)):
            await anyio.sleep(0.05)
            figures = figures_of((await ApiClient(rpc).get("/metrics")).text)
    return figures


def of_tool(figures: Figures, tool: str) -> Figures:
    """What is above 0 of one tool, without buckets and sums of times."""
    ours = {name.replace(f'tool="{tool}"', "_"): value for name, value in figures.items() if f'tool="{tool}"' in name}
    return {name: value for name, value in ours.items() if value and "_bucket" not in name and "_sum" not in name}
