"""How a process ends at once, without waiting for threads that nothing can stop."""

import os
import sys
from typing import NoReturn

from taskmill.workers.child_processes import end_child_processes

__all__ = ["exit_now"]


def exit_now(code: int = 0, *, flush: bool = True) -> NoReturn:
    """End this process now: threads that still run are not waited for, and nothing is cleaned up.

    Only what tools have started with `multiprocessing` ends with it.

    `flush=False` loses what is still to be printed. Needed where another thread may hang in a print: a flush would
    wait for it.
    """
    end_child_processes()
    if flush:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
