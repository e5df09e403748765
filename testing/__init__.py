"""For tests of task tools: the whole engine in one process, or just the tool, with clients of every class."""

from taskmill.testing.bed import TestBed
from taskmill.testing.clients import CallRecord, ClientKind, VirtualClient
from taskmill.testing.eager import Eager, EagerRun
from taskmill.testing.timeline import StatusUpdate, in_order

__all__ = ["CallRecord", "ClientKind", "Eager", "EagerRun", "StatusUpdate", "TestBed", "VirtualClient", "in_order"]
