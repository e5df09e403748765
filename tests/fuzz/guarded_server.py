"""The attacked server as a process serves it: with users, known by their tokens."""

from wire.tokens import guarded_options

from fuzz.server import make_server

mcp = make_server(**guarded_options())
