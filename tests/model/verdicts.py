"""What the state machine finds in broken scripts."""

import contextlib
import io
from pathlib import Path

from tests.model.mutants import Mutant, broken_scripts
from tests.stateful.lifecycle_machine import run_machine

__all__ = ["machine_verdict"]

_ROUNDS = 20


def machine_verdict(mutant: Mutant, url: str, folder: Path) -> str:
    """How the state machine, which has no failovers, failed on the broken scripts; empty if it did not."""
    with broken_scripts(mutant, folder), contextlib.redirect_stderr(io.StringIO()):
        if mutant.after_failover:
            return ""
        # In rounds, each by a seed of its own: one alone may stay long among sequences that have nothing of the fault.
        seeds, examples = ([None], 60) if mutant.in_model else ([*range(_ROUNDS)], 25)
        try:
            for number in seeds:
                run_machine(url, examples=examples, steps=60, seed_number=number, shrink=False)
        except Exception as failure:
            return type(failure).__name__
    return ""
