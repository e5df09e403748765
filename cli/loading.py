"""Finds the author's server object: `file.py`, `file.py:name`, `package.module` or `package.module:name`.

`name` may also be a function without arguments that makes the server. A server that is not the author's is an address,
a command, or a file with `mcpServers`.

The author's code runs here and nowhere else in `cli/`. The commands decide what to do with the object.
"""

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from mcp.server.mcpserver import MCPServer

from taskmill.adapters.foreign_servers import (
    host_of,
    is_foreign_server,
    keep_from_serving,
    log_as_command,
    make_absent_packages_importable,
    remote_host,
)
from taskmill.adapters.remote.target import is_remote
from taskmill.engine.errors import ServerLoadError, TaskmillError
from taskmill.server import TaskServer
from taskmill.server.tool_host import ToolHost

__all__ = ["file_or_module", "is_loading", "load_server", "main_file"]

T = TypeVar("T")

_PACKAGE = "taskmill_app"
"""The package of a file's module. It is the same in every process: server and worker compare functions by name."""
_FILE = "_TASKMILL_APP_FILE"
_FOR_CHILDREN = str(Path(__file__).parent / "spawned")
"""With this folder on the path, other processes find the file's module by its name: see `spawned/taskmill_app.py`."""
_loading: ContextVar[bool] = ContextVar("loading", default=False)
_USUAL_NAMES = ("mcp", "server", "app")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SKIPPED_FRAMES = ("<frozen importlib", __file__)


def load_server(target: str) -> ToolHost:
    """The server object that `target` names.

    Raises:
        ServerLoadError: there is no server, or the module cannot be run; `facts["trace"]` is the author's traceback.
    """
    if is_remote(target):
        remote = remote_host(target)
        remote.import_path = target
        return remote
    location, name = _split(target)
    module = _load_module(location) if _is_module(location) else _load_file(_python_file(location))
    server = _select_server(module, location, name)
    server.import_path = target
    return server


def is_loading() -> bool:
    """Whether the author's code is running because a command loads it: then it must not start a server itself."""
    return _loading.get()


def file_or_module(target: str) -> tuple[str, bool]:
    """The file or module of `target`, without the name of the object; True if it is a module.

    Raises:
        ServerLoadError: `target` is not of a valid form.
    """
    location, _ = _split(target)
    return location, _is_module(location)


def main_file(target: str) -> Path | None:
    """The file of `target`, whose server is loaded; None = it is an address or a command."""
    if is_remote(target):
        return Path(target).resolve() if target.endswith(".json") else None
    location, is_module = file_or_module(target)
    return Path(sys.modules[location].__file__ or location if is_module else location).resolve()


def _split(target: str) -> tuple[str, str | None]:
    location, colon, name = target.rpartition(":")
    if not colon:
        return target, None
    if not location or not name.isidentifier():
        raise ServerLoadError(f"{target!r} does not name a server: write file.py, file.py:name or package.module:name.")
    return location, name


def _is_module(location: str) -> bool:
    if not _DOTTED.fullmatch(location) or location.endswith(".py"):
        return False
    path = Path(location)
    return not path.is_file() and (not path.is_dir() or (path / "__init__.py").is_file())


def _python_file(location: str) -> Path:
    path = Path(location)
    if path.is_dir():
        raise ServerLoadError(f"{location} is a directory: name the file in it that has the server.")
    if not path.exists():
        raise ServerLoadError(f"There is no file {location}.")
    if path.suffix != ".py":
        raise ServerLoadError(f"{location} is not a Python file: its name must end in .py.")
    return path.absolute()


def _load_file(path: Path) -> ModuleType:
    """The file as a module: of its own package, if it is in one, so that relative imports mean what they say there.

    Else with a private name, so that `server.py` or `mcp.py` hides no installed module.
    """
    _add_to_path(path.parent)
    if (name := _name_in_package(path)) is not None:
        return _load_module(name)
    package = sys.modules.setdefault(_PACKAGE, ModuleType(_PACKAGE))
    package.__path__ = [str(path.parent)]
    os.environ[_FILE] = str(path)
    _add_to_path(Path(_FOR_CHILDREN))
    name = _PACKAGE + "." + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with_loader = spec.loader
    _execute(str(path), lambda: with_loader.exec_module(module))
    return module


def _name_in_package(path: Path) -> str | None:
    """The dotted name of a file whose folder is a package; None if it is in none, or if another one has the name."""
    top, parts = path.parent, [path.stem]
    while (top / "__init__.py").is_file():
        top, parts = top.parent, [top.name, *parts]
    name = ".".join(parts)
    if len(parts) == 1 or not _DOTTED.fullmatch(name):
        return None
    _add_to_path(top)
    package = importlib.util.find_spec(parts[0])  # of the top only: more would run the author's code here
    return name if package is not None and package.origin == str(top / parts[0] / "__init__.py") else None


def _load_module(name: str) -> ModuleType:
    _add_to_path(Path.cwd())
    _execute(name, lambda: importlib.import_module(name))
    return sys.modules[name]


def _add_to_path(folder: Path) -> None:
    """Let the author's modules import the files beside them. Last on the path: none may hide an installed module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _marked_as_loading() -> Iterator[None]:
    before = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(before)


def _execute(location: str, run: Callable[[], T], *, is_authors: bool = True) -> T:
    """Run the author's code; an exception becomes an error that shows the author's own lines.

    `is_authors`: whether an error of ours names a line of that code, and not the whole.

    Raises:
        ServerLoadError: the code did not run to its end.
    """
    try:
        make_absent_packages_importable()
        keep_from_serving(is_loading)
        with _marked_as_loading():
            return run()
    except ModuleNotFoundError as exc:
        if exc.name and f"{location}.".startswith(f"{exc.name}."):
            raise ServerLoadError(f"There is no file or module {location}.") from None
        raise _load_error(location, exc) from exc
    except SyntaxError as exc:
        raise ServerLoadError(f"{exc.filename or location}, line {exc.lineno}: {exc.msg}.") from exc
    except TaskmillError as exc:
        line = _author_line(exc) if is_authors else ""
        raise ServerLoadError(f"{line or location}: {exc}", **exc.facts) from exc
    except SystemExit as exc:
        line = _author_line(exc)
        raise ServerLoadError(
            f"{line or location}: the module ended the program (sys.exit) while it was loaded."
        ) from exc
    except Exception as exc:
        raise _load_error(location, exc) from exc


def _load_error(location: str, exc: Exception) -> ServerLoadError:
    trace = "".join(traceback.format_exception(type(exc), exc, _author_trace(exc)))
    return ServerLoadError(f"{location} could not be loaded: the traceback above says why.", trace=trace)


def _author_trace(exc: BaseException) -> TracebackType | None:
    """The traceback, from the author's first frame on."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_SKIPPED_FRAMES):
        trace = trace.tb_next
    return trace


def _author_line(exc: BaseException) -> str:
    trace = _author_trace(exc)
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else ""


def _select_server(module: ModuleType, location: str, name: str | None) -> ToolHost:
    """The object with this name. Without a name: one with a usual name, else the only one.

    Raises:
        ServerLoadError: there is none, or there are several; the message says what to write.
    """
    servers = {key: value for key, value in vars(module).items() if _is_server(value)}
    if name is not None:
        if name in servers:
            return _host_of(servers[name], f"{location}:{name}")
        if inspect.isroutine(vars(module).get(name)):
            return _made_by(vars(module)[name], location, name)
        raise ServerLoadError(_no_server_message(module, location, name, list(servers)))
    for name_ in _USUAL_NAMES:
        if name_ in servers:
            return _host_of(servers[name_], f"{location}:{name_}")
    if len({id(value) for value in servers.values()}) == 1:
        return _host_of(next(iter(servers.values())), location)
    if servers:
        choices = " or ".join(f"{location}:{key}" for key in servers)
        raise ServerLoadError(f"{location} has several servers: write {choices}.")
    plain = next((key for key, value in vars(module).items() if isinstance(value, MCPServer)), None)
    if plain is not None:
        raise ServerLoadError(_plain_server_message(location, plain))
    raise ServerLoadError(_none_found_message(module, location))


def _made_by(factory: Callable[..., object], location: str, name: str) -> ToolHost:
    """The server that an author's function makes.

    Raises:
        ServerLoadError: it takes arguments, raises, or returns something else.
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as exc:
        raise ServerLoadError(
            f"{location}:{name} must be callable without arguments ({exc}): give each a default."
        ) from exc
    value = _execute(f"{location}:{name}", factory)
    if inspect.iscoroutine(value):
        value.close()
        raise ServerLoadError(f"{location}:{name} is an async function: write it with `def`, without `async`.")
    if not _is_server(value):
        raise ServerLoadError(
            f"{location}:{name} returned a {type(value).__name__}, not a TaskServer or a FastMCP server."
        )
    return _host_of(value, f"{location}:{name}")


def _is_server(value: object) -> bool:
    return isinstance(value, TaskServer) or is_foreign_server(value)


def _host_of(server: Any, location: str) -> ToolHost:
    """What commands take of a server object.

    Raises:
        ServerLoadError: it is of another framework, and cannot be served as it is.
    """
    if isinstance(server, TaskServer):
        return server
    log_as_command()
    return _execute(location, lambda: host_of(server), is_authors=False)


def _none_found_message(module: ModuleType, location: str) -> str:
    source, made = "taskmill.server", "TaskServer"
    if any(str(getattr(value, "__module__", None)).startswith("fastmcp.") for value in vars(module).values()):
        source, made = "fastmcp", "FastMCP"
    return (
        f"{location} has no server object at its top level. Write there, and not inside a function:\n"
        f"    from {source} import {made}\n"
        f'    mcp = {made}("My tools")\n'
        f"Or name a function without arguments that returns one: {location}:create"
    )


def _no_server_message(module: ModuleType, location: str, name: str, servers: list[str]) -> str:
    if name not in vars(module):
        others = f" It has {', '.join(f'{location}:{key}' for key in servers)}." if servers else ""
        return f"{location} has no {name!r}.{others}"
    value = vars(module)[name]
    if isinstance(value, MCPServer):
        return _plain_server_message(location, name)
    return f"{location}:{name} is of type {type(value).__name__}, not a TaskServer or a FastMCP server."


def _plain_server_message(location: str, name: str) -> str:
    return (
        f"{location}:{name} is a plain MCPServer, which has no tasks. Change two lines; everything else stays:\n"
        "    from taskmill.server import TaskServer      # beside or instead of MCPServer\n"
        f"    {name} = TaskServer(...)      # with the arguments that MCPServer got"
    )
