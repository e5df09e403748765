"""The operators' web page, on a replica at `/console` or by itself with `taskmill console`.

It reads and acts through the store, as the commands do. Templates are in `templates/`, what browsers load in `static/`.
"""

from taskmill.console.routes import console_mount
from taskmill.console.tasks import ConsoleTasks

__all__ = ["ConsoleTasks", "console_mount"]
