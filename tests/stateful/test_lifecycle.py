"""The lifecycle as a state machine (`machine.py`), in the form that every run of the suite can afford."""

import pytest

from tests.stateful.lifecycle_machine import run_machine


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_moves_breaks_a_promise(seed: int, redis_url: str) -> None:
    """400 sequences in all, in parts that share the cores; `scripts/state_machine` tries as many as you want."""
    run_machine(redis_url, examples=100, steps=60, seed_number=seed)
