"""For tests of task tools: the whole engine in one process, or just the tool, with clients of every class."""

from windlass.testing.bed import TestBed
from windlass.testing.clients import Called, ClientKind, VirtualClient
from windlass.testing.eager import Eager, EagerRun
from windlass.testing.timeline import Moment, in_order

__all__ = ["Called", "ClientKind", "Eager", "EagerRun", "Moment", "TestBed", "VirtualClient", "in_order"]
