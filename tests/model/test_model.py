"""The protocol of lease and fence, looked at state by state; and that the search and the state machine see faults."""

from pathlib import Path

import pytest

from tests.model.failovers import Failovers, Limits
from tests.model.mutants import MUTANTS, Mutant, broken_scripts
from tests.model.protocol import Bounds, Protocol
from tests.model.search import search
from tests.model.verdicts import machine_verdict


def test_no_state_that_the_protocol_can_reach_breaks_a_promise() -> None:
    """Three workers, four claims, parks, a question, a cancel, lost and late calls; `scripts/model` looks further."""
    found = search(Protocol(Bounds()))

    assert (found.violation, found.history) == ("", [])
    assert found.states > 20_000, "a search that sees less than it did has lost some of the steps"


def test_no_failover_makes_a_fence_come_twice_or_later_than_a_higher_one() -> None:
    """docs/decisions/0021: two failovers by promotion or restart, each losing up to three writes of two tasks."""
    found = search(Failovers(Limits()))

    assert (found.violation, found.history) == ("", [])
    assert found.states > 60_000, "a search that sees less than it did has lost some of the steps"


def test_without_a_floor_the_first_claim_after_a_lost_one_has_its_fence() -> None:
    """The search says the shortest way there."""
    found = search(Failovers(Limits(), frozenset({"no floor after a failover"})))

    assert found.violation == "I5: fence 1 is given to claim 1 and to a later one"
    assert found.history == ["claim of task 0", "promotion that loses 1 writes"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_in_the_protocol_is_seen(mutant: Mutant, redis_url: str, tmp_path: Path) -> None:
    """By the search where the model knows the fault, the rest by the state machine, in the real scripts.

    What the search sees the state machine may miss: it tries sequences, and some are rare. So there it is only held
    that the scripts still have the place of the fault.
    """
    by_search = mutant.searched().violation if mutant.in_model else ""
    if mutant.in_model and not mutant.harmless:
        with broken_scripts(mutant, tmp_path):
            assert by_search
    else:
        by_machine = machine_verdict(mutant, redis_url, tmp_path)
        assert (by_search, by_machine) == ("", "" if mutant.harmless else "AssertionError")
