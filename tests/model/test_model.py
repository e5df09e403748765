"""The protocol of lease and fence, looked at state by state; and that the search and the state machine see faults."""

import contextlib
import io
from pathlib import Path

import pytest
from machine import run_machine

from .mutants import MUTANTS, Mutant, broken_scripts
from .protocol import Bounds
from .search import search


def test_no_state_that_the_protocol_can_reach_breaks_a_promise() -> None:
    """Three workers, four claims, parks, a question, a cancel, lost and late calls; `scripts/model` looks further."""
    found = search(Bounds())

    assert (found.violation, found.history) == ("", [])
    assert found.states > 20_000, "a search that sees less than it did has lost some of the steps"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_in_the_protocol_is_seen(mutant: Mutant, redis_url: str, tmp_path: Path) -> None:
    """By the search where the model knows the fault; the rest by the state machine, in the real scripts.

    What the search sees the state machine may miss: it tries sequences, and some are rare.
    """
    by_search = search(Bounds(), frozenset({mutant.name})).violation if mutant.in_model else "not in the model"
    by_machine = machine_verdict(mutant, redis_url, tmp_path)

    if mutant.harmless:
        assert (by_search, by_machine) == ("", "")
    else:
        assert by_search
        assert by_machine == "AssertionError" or (mutant.in_model and not by_machine)


def machine_verdict(mutant: Mutant, url: str, folder: Path) -> str:
    """How the state machine failed on the broken scripts; empty if it did not."""
    with broken_scripts(mutant, folder), contextlib.redirect_stderr(io.StringIO()):
        try:
            run_machine(url, examples=60 if mutant.in_model else 500, steps=60, shrink=False)
        except Exception as failure:
            return type(failure).__name__
    return ""
