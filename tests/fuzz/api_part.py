"""The part `api`: schemathesis makes requests of the API's own description, good and bad, to a real replica."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import schemathesis
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from redis.asyncio import Redis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from tests.fuzz.examples import drive_with
from tests.fuzz.oracle import revealed_internals
from tests.fuzz.processes import RemoteTarget, ServerProcesses
from tests.fuzz.report import Report
from tests.fuzz.target import ADA, BOB, OPERATOR_TOKEN, Possessions

__all__ = ["attack_api"]

_CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_TOKENS = (ADA, BOB, OPERATOR_TOKEN, None, "nonsense")
_STREAMS = ("followEvents", "getOutput")
_FOR_OPERATORS = ("listAttempts",)
"""They answer operators alone, and with the tracebacks of tools."""
_TIMEOUT = 30


def attack_api(
    examples: int, *, is_random: bool = False, change: Callable[[dict[str, Any]], None] = lambda described: None
) -> Report:
    """So many examples for each operation, half of them as the description says and half not.

    `change`: of the description, for a flaw that the judges must see.
    """
    report = Report("api")
    with ServerProcesses() as processes:
        owner = asyncio.run(_furnished(processes))
        described = httpx2.get(f"{processes.address}/api/openapi.json", timeout=_TIMEOUT).json()
        change(described)
        for operation in _operations(schemathesis.openapi.from_dict(described)):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                strategy = st.tuples(
                    operation.as_strategy(generation_mode=mode),
                    st.sampled_from(_TOKENS),
                    st.sampled_from(_ids(operation, owner)),
                )
                with suppress(Unsatisfiable):  # where anything is good there is nothing bad
                    drive_with(report, _Judge(processes), strategy, examples=examples // 2, is_random=is_random)
        if faults := _faults_afterwards(processes):
            report.found(faults, "everything before")
    return report


def _operations(described: Any) -> Iterator[Any]:
    for result in described.get_all_operations():
        yield result.ok()


def _ids(operation: Any, owner: Possessions) -> tuple[str | None, ...]:
    """What may stand in the path; None = what schemathesis makes up. A stream of what runs would never end."""
    streams = operation.definition.raw.get("operationId") in _STREAMS
    return (None, owner.done, owner.failed, *(() if streams else (owner.asking, owner.stays)), owner.artifact)


class _Judge:
    def __init__(self, processes: ServerProcesses) -> None:
        self._processes = processes

    def __call__(self, drawn: tuple[Any, str | None, str | None]) -> tuple[list[str], str]:
        case, token, named = drawn
        if named is not None and case.path_parameters:
            case.path_parameters = {**case.path_parameters, **dict.fromkeys(case.path_parameters, named)}
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        response = case.call(base_url=f"{self._processes.address}/api", headers=headers, timeout=_TIMEOUT)
        faults = [f"{case.operation.label}: {fault}" for fault in _broken(case, response)]
        asked = f"{response.request.url} {response.request.headers} {response.request.body!r}"
        if not (response.status_code == 200 and case.operation.definition.raw.get("operationId") in _FOR_OPERATORS):
            faults += [f"reveals an internal: {word!r}" for word in revealed_internals(response.text, asked)]
        return (
            faults + self._processes.faults(),
            f"{case.as_curl_command(headers=headers)}\n{response.status_code} {response.text}",
        )


def _broken(case: Any, response: Any) -> list[str]:
    try:
        case.validate_response(response, checks=_CHECKS)
    except FailureGroup as group:
        return [f"{failure.title}: {failure.message}"[:400] for failure in group.exceptions]
    except Failure as failure:
        return [f"{failure.title}: {failure.message}"[:400]]
    return []


async def _furnished(processes: ServerProcesses) -> Possessions:
    async with Redis.from_url(processes.redis.url) as redis, httpx2.AsyncClient(timeout=_TIMEOUT) as http:
        target = RemoteTarget(redis, http, processes.address)
        await target.furnish("guarded", target.ada)
        return target.ada


def _faults_afterwards(processes: ServerProcesses) -> list[str]:
    async def look() -> list[str]:
        async with Redis.from_url(processes.redis.url) as redis, httpx2.AsyncClient(timeout=_TIMEOUT) as http:
            return await RemoteTarget(redis, http, processes.address).serves_users()

    return asyncio.run(look()) + processes.faults()
