"""Servers of other frameworks, by their class: a framework is imported only if the author's file has imported it.

And servers that are no author's file at all, by their TARGET.
"""

import importlib.util
import logging
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from taskmill.adapters.remote.target import upstreams_of
from taskmill.engine.errors import ServerLoadError

if TYPE_CHECKING:
    from taskmill.server.tool_host import ToolHost

__all__ = [
    "check_fastmcp",
    "check_remote",
    "collect_tools",
    "host_of",
    "is_foreign_server",
    "log_as_command",
    "make_absent_packages_importable",
    "remote_host",
]

_STAND_INS = dict.fromkeys(("docket", "fastmcp_tasks"), "taskmill.adapters.fastmcp.absent_tasks")
"""A package that an author's file may import although it is not installed -> the module in its place.

FastMCP's own engine needs another redis-py than arq. A file that adds its extension runs here unchanged: the extension
makes way for Taskmill's.
"""


def is_foreign_server(value: object) -> bool:
    """Whether a server of another framework can be made a task server."""
    framework = sys.modules.get("fastmcp.server.server")
    return framework is not None and isinstance(value, framework.FastMCP)


def host_of(server: Any) -> "ToolHost":
    """The server as commands take it.

    Raises:
        PolicyError, DuplicateTool, ToolUnfit: it cannot be served as it is.
    """
    from taskmill.adapters.fastmcp.host import FastMCPHost

    return FastMCPHost(server)


def check_fastmcp() -> None:
    """Check that servers which are not Taskmill's own can be served.

    Raises:
        ServerLoadError: FastMCP is not installed.
    """
    if importlib.util.find_spec("fastmcp") is None:
        raise ServerLoadError("Servers that are not Taskmill's own need FastMCP: pip install 'taskmill[fastmcp]'")


def check_remote(target: str) -> None:
    """Check a TARGET that is an address, a command or a file with `mcpServers`, without connecting to it.

    Raises:
        ServerLoadError: FastMCP is not installed, or it names no server.
    """
    check_fastmcp()
    upstreams_of(target, {})


def remote_host(target: str) -> "ToolHost":
    """The servers of a TARGET that is an address, a command or a file with `mcpServers`.

    Raises:
        ServerLoadError: FastMCP is not installed, or a server cannot be reached.
        SettingsError: a setting for such servers cannot work.
    """
    check_fastmcp()
    from taskmill.adapters.remote.host import RemoteHost
    from taskmill.adapters.remote.settings import remote_settings

    log_as_command()
    return RemoteHost(target, remote_settings())


async def collect_tools(server: "ToolHost") -> None:
    """Learn the tools of a server that `host_of` was given in a running event loop; nothing to do for a `TaskServer`.

    Raises:
        PolicyError, DuplicateTool: it cannot be served as it is.
    """
    collect = getattr(server, "collect", None)
    if collect is not None:
        await collect()


def log_as_command() -> None:
    """Have the frameworks log in the form of the command that has loaded the server, not in one of their own."""
    logger = logging.getLogger("fastmcp")
    logger.handlers.clear()
    logger.propagate = True


def make_absent_packages_importable() -> None:
    """Let an author's file import packages that are not installed and not needed."""
    if not any(isinstance(finder, _StandIns) for finder in sys.meta_path):
        sys.meta_path.append(_StandIns())


class _StandIns(MetaPathFinder):
    """Comes last: an installed package is found before."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module in the place of a package that no one else has found."""
        package = fullname.partition(".")[0]
        if package not in _STAND_INS or (path is None) != (fullname == package):
            return None
        found = importlib.util.find_spec(_STAND_INS[package])
        assert found is not None
        assert found.origin is not None
        spec = importlib.util.spec_from_file_location(fullname, found.origin, submodule_search_locations=[])
        assert spec is not None
        return spec
