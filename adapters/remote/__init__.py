"""Servers that are not ours at all, in any language: a TARGET of a command may be an address, a command, or a file with
`mcpServers`. A worker calls the server behind it, and holds the call.

Nothing is imported here: a command must know the notation (`target.py`) before FastMCP, which does the rest, is there.
"""
