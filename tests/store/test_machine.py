"""The lifecycle as a state machine (`machine.py`), in the form that every run of the suite can afford."""

import pytest
from machine import run_machine


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_sequence_of_moves_breaks_a_promise(redis_url: str) -> None:
    """`scripts/machine` tries as many as one has time for."""
    run_machine(redis_url, examples=400, steps=60)
