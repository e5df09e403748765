"""The attacked server as a process serves it: with users, known by their tokens."""

from tests.fuzz.server import make_server
from tests.support.tokens import guarded_options

mcp = make_server(**guarded_options())
