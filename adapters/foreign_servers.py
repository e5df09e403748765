"""Servers of other frameworks, by their class: a framework is imported only if the author's file has imported it.

And servers that are no author's file at all, by their TARGET.
"""

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
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
    "keep_from_serving",
    "log_as_command",
    "make_absent_packages_importable",
    "plain_fastmcp",
    "remote_host",
]

_STAND_INS = dict.fromkeys(("docket", "fastmcp_tasks"), "taskmill.adapters.fastmcp.absent_tasks")
"""A package that an author's file may import although it is not installed -> the module in its place.

FastMCP's own engine needs another redis-py than arq. A file that adds its extension runs here unchanged: the extension
makes way for Taskmill's.
"""

_TRANSPORTS = "fastmcp.server.mixins.transport"
_GUARDED = "_taskmill_guarded"
"""Mark of a class whose methods have been replaced."""


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


def plain_fastmcp(host: "ToolHost") -> object | None:
    """The FastMCP server behind a host, if it is of FastMCP's own class; None = it is something else."""
    made: object = getattr(host, "server", None)
    return made if f"{type(made).__module__}.{type(made).__qualname__}" == "fastmcp.server.server.FastMCP" else None


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


def keep_from_serving(is_loading: Callable[[], bool]) -> None:
    """Have `mcp.run()` at the top of an author's file start nothing while a command loads it: it would never return.

    `is_loading`: whether that is so where it is asked.
    """
    imported = sys.modules.get(_TRANSPORTS)
    if imported is not None:
        _guard_transports(imported, is_loading)
    elif not any(isinstance(finder, _GuardsTransports) for finder in sys.meta_path):
        sys.meta_path.insert(0, _GuardsTransports(is_loading))


def _guard_transports(module: ModuleType, is_loading: Callable[[], bool]) -> None:
    mixin = module.TransportMixin
    if hasattr(mixin, _GUARDED):
        return
    setattr(mixin, _GUARDED, True)
    for name in ("run", "run_async", "run_stdio_async", "run_http_async"):
        setattr(mixin, name, _unless_loading(getattr(mixin, name), is_loading))


def _unless_loading(method: Callable[..., Any], is_loading: Callable[[], bool]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def awaited(*args: Any, **options: Any) -> Any:
            return None if is_loading() else await method(*args, **options)

        return awaited

    @wraps(method)
    def called(*args: Any, **options: Any) -> Any:
        return None if is_loading() else method(*args, **options)

    return called


class _GuardsTransports(MetaPathFinder):
    """Comes first, and sees FastMCP's module of transports imported by the author's file."""

    def __init__(self, is_loading: Callable[[], bool]) -> None:
        self._is_loading = is_loading

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """What the others find, with a loader that guards the module once it has run."""
        if fullname != _TRANSPORTS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_guard(module: ModuleType) -> None:
                run(module)
                _guard_transports(module, self._is_loading)

            spec.loader.exec_module = run_and_guard  # type: ignore[method-assign]
        return spec


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
