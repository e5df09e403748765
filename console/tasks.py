"""What a console is of: a store, and what its process knows of queues, tools and settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskmill.server.api.operations import Operations
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["ConsoleTasks"]


@dataclass(frozen=True)
class ConsoleTasks:
    """Whose tasks the console shows. The store is asked for at each request: a server has it only while it serves."""

    store: Callable[[], TaskStore]
    app: str | None = None
    """Whose queues and tools; None = all that the Redis has."""
    tools: Callable[[], Mapping[str, str]] = dict
    """Task tools that are known without workers, with their queues."""
    settings: Mapping[str, object] | None = None
    """What the page of settings shows."""

    shows_arguments: bool = False
    """Whether operators may open the arguments of tasks."""

    def operations(self, by: str = "") -> Operations:
        """Queues, tools and workers. `by`: who acts."""
        return Operations(self.store(), self.app, self.tools(), by=by)
