"""Finds the author's server object: `file.py`, `file.py:name`, `package.module` or `package.module:name`.

The author's code runs here and nowhere else in `cli/`. The commands decide what to do with the object.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from mcp.server.mcpserver import MCPServer

from taskmill.engine.errors import ServerLoadError, TaskmillError
from taskmill.server import TaskServer
from taskmill.server.tool_host import ToolHost

__all__ = ["file_or_module", "load_server"]

_PACKAGE = "taskmill_app"
"""The package of a file's module. It is the same in every process: server and worker compare functions by name."""
_USUAL_NAMES = ("mcp", "server", "app")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SKIPPED_FRAMES = ("<frozen importlib", __file__)


def load_server(target: str) -> ToolHost:
    """The server object that `target` names.

    Raises:
        ServerLoadError: there is no server, or the module cannot be run; `facts["trace"]` is the author's traceback.
    """
    location, name = _split(target)
    server = _select_server(
        _load_module(location) if _is_module(location) else _load_file(_python_file(location)), location, name
    )
    server.import_path = target
    return server


def file_or_module(target: str) -> tuple[str, bool]:
    """The file or module of `target`, without the name of the object; True if it is a module.

    Raises:
        ServerLoadError: `target` is not of a valid form.
    """
    location, _ = _split(target)
    return location, _is_module(location)


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
    """The file as a module with a private name, so that `server.py` or `mcp.py` hides no installed module."""
    package = sys.modules.setdefault(_PACKAGE, ModuleType(_PACKAGE))
    package.__path__ = []
    name = _PACKAGE + "." + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _add_to_path(path.parent)
    with_loader = spec.loader
    _execute(str(path), lambda: with_loader.exec_module(module))
    return module


def _load_module(name: str) -> ModuleType:
    _add_to_path(Path.cwd())
    _execute(name, lambda: importlib.import_module(name))
    return sys.modules[name]


def _add_to_path(folder: Path) -> None:
    """Let the author's modules import the files beside them. Last on the path: none may hide an installed module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _execute(location: str, run: Any) -> None:
    """Run the author's module; an exception becomes an error that shows the author's own lines.

    Raises:
        ServerLoadError: the module did not run to its end.
    """
    try:
        run()
    except ModuleNotFoundError as exc:
        if exc.name and f"{location}.".startswith(f"{exc.name}."):
            raise ServerLoadError(f"There is no file or module {location}.") from None
        raise _load_error(location, exc) from exc
    except SyntaxError as exc:
        raise ServerLoadError(f"{exc.filename or location}, line {exc.lineno}: {exc.msg}.") from exc
    except TaskmillError as exc:
        line = _author_line(exc)
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
    servers = {key: value for key, value in vars(module).items() if isinstance(value, TaskServer)}
    if name is not None:
        if name in servers:
            return servers[name]
        raise ServerLoadError(_no_server_message(module, location, name, list(servers)))
    for name_ in _USUAL_NAMES:
        if name_ in servers:
            return servers[name_]
    if len({id(value) for value in servers.values()}) == 1:
        return next(iter(servers.values()))
    if servers:
        choices = " or ".join(f"{location}:{key}" for key in servers)
        raise ServerLoadError(f"{location} has several servers: write {choices}.")
    plain = next((key for key, value in vars(module).items() if isinstance(value, MCPServer)), None)
    if plain is not None:
        raise ServerLoadError(_plain_server_message(location, plain))
    raise ServerLoadError(
        f"{location} has no server object at its top level. Write there, and not inside a function:\n"
        "    from taskmill.server import TaskServer\n"
        '    mcp = TaskServer("My tools")'
    )


def _no_server_message(module: ModuleType, location: str, name: str, servers: list[str]) -> str:
    if name not in vars(module):
        others = f" It has {', '.join(f'{location}:{key}' for key in servers)}." if servers else ""
        return f"{location} has no {name!r}.{others}"
    value = vars(module)[name]
    if isinstance(value, MCPServer):
        return _plain_server_message(location, name)
    return f"{location}:{name} is of type {type(value).__name__}, not a TaskServer."


def _plain_server_message(location: str, name: str) -> str:
    return (
        f"{location}:{name} is a plain MCPServer, which has no tasks. Change two lines; everything else stays:\n"
        "    from taskmill.server import TaskServer      # beside or instead of MCPServer\n"
        f"    {name} = TaskServer(...)      # with the arguments that MCPServer got"
    )
