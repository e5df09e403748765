"""Calls every tool of a server directly and through Taskmill in each way, and compares: answers must be the same."""

import os
import re
import shutil
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp import MCPError
from mcp.client import Client
from mcp_types import LoggingMessageNotificationParams, PromptReference
from pydantic import BaseModel

from taskmill.testing.answers import Answerer
from taskmill.testing.client_types import ClientKind, Endpoint
from taskmill.testing.clients import client_at
from taskmill.testing.sdk_client import sdk_client
from tests.foreign_servers import http_bridge
from tests.foreign_servers.servers import SERVERS, Call, ForeignServer
from tests.foreign_servers.sessions import Pipes, answers_to, http_upstream, running
from tests.support.processes import kill, processes_with, taskmill

__all__ = ["WAYS", "Difference", "Report", "Transport", "compare"]

Json = dict[str, Any]
Transport = Literal["pipes", "http"]
"""The upstream's; Taskmill is then reached over the other one."""
WAYS = ("foreground", *ClientKind)
_WITHIN = 60.0
_CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?|\d{1,2}:\d\d:\d\d [AP]M|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
"""Times and ids, which differ from one call to the next."""


@dataclass(frozen=True)
class Difference:
    """Where Taskmill's answer is not the server's own."""

    server: str
    way: str
    what: str
    direct: Any
    through: Any

    def __str__(self) -> str:
        where = f"{self.server}, {self.way}: {self.what}"
        return f"{where}\n  directly: {self.direct!s:.600}\n  through:  {self.through!s:.600}"


@dataclass
class Report:
    """What came of one server."""

    equal: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, server: str, way: str, direct: Mapping[str, Any], through: Mapping[str, Any]) -> None:
        """Compare what was answered to the same questions."""
        for what in direct:
            if direct[what] == through.get(what):
                self.equal += 1
            else:
                self.differences.append(Difference(server, way, what, direct[what], through.get(what)))


@dataclass(frozen=True)
class _Place:
    """Where a server works, and how it is started."""

    server: ForeignServer
    folder: Path
    work: Path
    environment: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        return [*self.server.words(), *(self.filled(word) for word in self.server.more_words)]

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{folder}", str(self.work))
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list) else value

    def make(self) -> None:
        """As it is before the first call."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.server.prepare(self.work)


async def compare(
    name: str, transport: Transport, folder: Path, *, ways: tuple[str, ...] = WAYS, tools: frozenset[str] = frozenset()
) -> Report:
    """One server, whose upstream is reached in one way; `tools`: those that are called, unless all are."""
    server = SERVERS[name]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TASKMILL_")}
    work = folder / "work"
    own = {key: value.replace("{folder}", str(work)) for key, value in server.environment.items()}
    home = {"TASKMILL_HOME": str(folder / "data"), "FOREIGN_FOLDER": str(folder)}
    place = _Place(server, folder, work, {**inherited, **home, **own})
    calls = [call for call in server.calls if not tools or call[0] in tools]
    report = Report()
    try:
        place.make()
        async with _upstream(place, transport) as (endpoint, words):
            direct = await _answers(place, endpoint, calls, ClientKind.HELD)
            if own := [call for call in calls if call[0] in server.own_tasks]:
                made = await _answers(place, endpoint, own, ClientKind.TASKS_2025)
                direct |= {what: made[f"0 {own[0][0]}"] for what in direct if what.endswith(f" {own[0][0]}")}
            lists = await _lists(place, endpoint)
            report.differences += _not_called(server, name, lists)
            if "foreground" in ways:
                async with _in_front(place, transport, words, {"TASKMILL_TASK": "none-of-them"}) as front:
                    report.add(name, "foreground", lists, await _lists(place, front))
                    place.make()
                    report.add(name, "foreground", direct, await _answers(place, front, calls, ClientKind.HELD))
            kinds = [kind for kind in ClientKind if kind in ways]
            has_toggles = any(tool in server.toggles for tool, _ in calls)
            for number, group in enumerate([[kind] for kind in kinds] if has_toggles else [kinds]):
                home = {"TASKMILL_HOME": str(folder / f"data{number}")}
                async with _in_front(place, transport, words, home) as front:
                    for kind in group:
                        place.make()
                        comparable = _comparable(server, kind, direct)
                        report.add(name, kind, comparable, await _answers(place, front, calls, kind))
    finally:
        kill(processes_with("FOREIGN_FOLDER", str(folder)))
    return report


def _comparable(server: ForeignServer, kind: ClientKind, direct: dict[str, Any]) -> dict[str, Any]:
    """The server's own answers, without those that this class of client cannot have."""
    left_out = server.asks_roots if kind is ClientKind.HANDED_OFF else ()
    return {what: answer for what, answer in direct.items() if what.split()[-1] not in left_out}


def _not_called(server: ForeignServer, name: str, lists: Mapping[str, Any]) -> list[Difference]:
    """The tools that no call is made of, and no reason is given for."""
    known = {tool for tool, _ in server.calls} | set(server.alone)
    listed = {what.removeprefix("tool ") for what in lists if what.startswith("tool ")}
    return [Difference(name, "directly", f"tool {tool}", "it is listed", "no call of it") for tool in listed - known]


@asynccontextmanager
async def _upstream(place: _Place, transport: Transport) -> AsyncIterator[tuple[Endpoint, list[str]]]:
    """The server itself, and the words that name it to Taskmill."""
    answerer = Answerer(answers_to)
    if transport == "pipes":
        words = place.words
        yield Pipes("", answerer, words=words, environment=place.environment), ["--", *words]
        return
    of_its_own = [*place.words, *place.server.http_words]
    words = of_its_own if place.server.http_words else [sys.executable, http_bridge.__file__, *place.words]
    with http_upstream(words, place.environment, place.folder) as url:
        yield Endpoint(url, answerer), [url]


@asynccontextmanager
async def _in_front(
    place: _Place, transport: Transport, words: list[str], more: Mapping[str, str]
) -> AsyncIterator[Endpoint]:
    """Taskmill in front of it: over HTTP if the server itself is reached over pipes, and the other way round."""
    environment = {**place.environment, **more, "TASKMILL_GRACE": "1", "TASKMILL_HANDOFF_AFTER": "0.5"}
    answerer = Answerer(answers_to)
    async with AsyncExitStack() as stack:
        if transport == "pipes":
            yield Endpoint(stack.enter_context(running(words, environment, place.folder)), answerer)
        else:
            log = place.folder / "stdio.log"
            yield Pipes("", answerer, words=[taskmill(), "stdio", *words], environment=environment, log=log)


async def _answers(place: _Place, endpoint: Endpoint, calls: list[Call], kind: ClientKind) -> dict[str, Any]:
    """The answer to each call."""
    found: dict[str, Any] = {}
    async with client_at(kind, endpoint) as client:
        for number, (tool, arguments) in enumerate(calls):
            what = f"{number} {tool}"
            try:
                with anyio.fail_after(_WITHIN):
                    called = await client.call(tool, **place.filled(arguments))
                found[what] = _plain(called.result)
            except MCPError as exc:
                found[what] = {"error": exc.error.code, "message": exc.error.message}
            except TimeoutError:
                found[what] = f"no answer within {_WITHIN:g} s"
    return found


async def _lists(place: _Place, endpoint: Endpoint) -> dict[str, Any]:
    """Tools, resources, prompts, completions and logging."""
    found: dict[str, Any] = {}
    logged: list[str] = []

    async def log(params: LoggingMessageNotificationParams) -> None:
        logged.append(str(params.level))

    async with sdk_client(endpoint, mode="legacy", logging_callback=log) as client:
        able = client.server_capabilities
        # Its tools for clients that can be asked are there a moment after the handshake.
        for tool in (await client.list_tools()).tools:
            found[f"tool {tool.name}"] = _listed(tool) | {"execution": None}
        if able.resources:
            await _resources(client, found)
        if able.prompts:
            for prompt in (await client.list_prompts()).prompts:
                found[f"prompt {prompt.name}"] = _listed(prompt)
                given = {argument.name: "Engineering" for argument in prompt.arguments or () if argument.required}
                found[f"prompt {prompt.name} filled"] = await _asked(client.get_prompt(prompt.name, given))
        if place.server.completion is not None and able.completions:
            prompt_name, argument, beginning = place.server.completion
            completing = client.complete(
                PromptReference(type="ref/prompt", name=prompt_name), {"name": argument, "value": beginning}
            )
            found["completion"] = await _asked(completing)
        if able.logging:
            found["logging"] = await _asked(client.set_logging_level("debug"))
    return found


async def _resources(client: Client, found: dict[str, Any]) -> None:
    for resource in (await client.list_resources()).resources:
        found[f"resource {resource.uri}"] = _listed(resource)
        found[f"text of {resource.uri}"] = await _asked(client.read_resource(resource.uri))
    for template in (await client.list_resource_templates()).resource_templates:
        found[f"template {template.uri_template}"] = _listed(template)
        address = re.sub(r"\{[^}]+\}", "1", template.uri_template)
        found[f"text of {address}"] = await _asked(client.read_resource(address))
    found["text of an absent one"] = await _asked(client.read_resource("absent://nowhere"))


async def _asked(answer: Any) -> Any:
    try:
        return _plain(await answer)
    except MCPError as exc:
        return {"error": exc.error.code}


def _plain(value: BaseModel | None) -> Any:
    """A message as data, without what is of one call or of one hop alone."""
    if value is None:
        return None
    return _without_meta(value.model_dump(by_alias=True, mode="json", exclude_none=True))


def _listed(value: BaseModel) -> Any:
    """A definition, whole: also its `_meta`."""
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


def _decoded(blob: str) -> str:
    return b64decode(blob).decode(errors="replace")


def _without_meta(value: Any) -> Any:
    if isinstance(value, dict):
        hop = {"_meta", "resultType", "ttlMs", "cacheScope"}
        kept = {key: item for key, item in value.items() if key not in hop and not (key == "arguments" and not item)}
        return {
            key: _without_meta(_decoded(item) if key == "blob" and isinstance(item, str) else item)
            for key, item in kept.items()
        }
    if isinstance(value, list):
        return [_without_meta(item) for item in value]
    return _CHANGING.sub("(changing)", value) if isinstance(value, str) else value
