"""The HTTP API against its own description: hostile requests are answered as it says."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.fuzz.api_part import attack_api


@pytest.mark.timeout(240)
def test_hostile_requests_of_every_operation_get_answers_as_described() -> None:
    report = attack_api(30)

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples >= 16 * 30


def _without_a_status(described: dict[str, Any]) -> None:
    del described["paths"]["/tasks/{task_id}"]["get"]["responses"]["401"]


def _with_codes_as_numbers(described: dict[str, Any]) -> None:
    described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["type"] = "integer"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("change", "seen"),
    [(_without_a_status, "Undocumented status code"), (_with_codes_as_numbers, "violates schema")],
)
def test_answers_that_are_not_as_described_are_seen(change: Callable[[dict[str, Any]], None], seen: str) -> None:
    report = attack_api(20, change=change)

    assert [fault for fault in report.faults if seen in fault], report.lines()
