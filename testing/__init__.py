"""For tests of task tools: the whole engine in one process, or just the tool, with clients of every class."""

from taskmill.testing.bed import TestBed
from taskmill.testing.clients import Called, ClientKind, VirtualClient
from taskmill.testing.eager import Eager, EagerRun
from taskmill.testing.timeline import Moment, in_order

__all__ = ["Called", "ClientKind", "Eager", "EagerRun", "Moment", "TestBed", "VirtualClient", "in_order"]
