"""Finds the author's server object: `file.py`, `file.py:name`, `package.module` or `package.module:name`.

The author's code runs here and nowhere else in `cli/`. What becomes of the object is up to the commands.
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

__all__ = ["load_server", "place_of"]

_HOME = "taskmill_app"
"""Package that a file's module lives in, the same in every process: server and worker compare functions by name."""
_USUAL_NAMES = ("mcp", "server", "app")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_OURS_TO_SKIP = ("<frozen importlib", __file__)


def load_server(target: str) -> ToolHost:
    """The server object that `target` names.

    Raises:
        ServerLoadError: there is none, or the module cannot be run; `facts["trace"]` has the author's traceback.
    """
    place, name = _split(target)
    server = _choose(_import(place) if _is_module(place) else _run(_checked(place)), place, name)
    server.import_path = target
    return server


def place_of(target: str) -> tuple[str, bool]:
    """The file or module that `target` names, without the object in it; True if it is a module.

    Raises:
        ServerLoadError: it cannot name either.
    """
    place, _ = _split(target)
    return place, _is_module(place)


def _split(target: str) -> tuple[str, str | None]:
    place, colon, name = target.rpartition(":")
    if not colon:
        return target, None
    if not place or not name.isidentifier():
        raise ServerLoadError(f"{target!r} does not name a server: write file.py, file.py:name or package.module:name.")
    return place, name


def _is_module(place: str) -> bool:
    if not _DOTTED.fullmatch(place) or place.endswith(".py"):
        return False
    path = Path(place)
    return not path.is_file() and (not path.is_dir() or (path / "__init__.py").is_file())


def _checked(place: str) -> Path:
    path = Path(place)
    if path.is_dir():
        raise ServerLoadError(f"{place} is a directory: name the file in it that has the server.")
    if not path.exists():
        raise ServerLoadError(f"There is no file {place}.")
    if path.suffix != ".py":
        raise ServerLoadError(f"{place} is not a Python file: its name must end in .py.")
    return path.absolute()


def _run(path: Path) -> ModuleType:
    """The file as a module of a private name, so that `server.py` or `mcp.py` hides nothing that is installed."""
    home = sys.modules.setdefault(_HOME, ModuleType(_HOME))
    home.__path__ = []
    name = _HOME + "." + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _see(path.parent)
    with_loader = spec.loader
    _shielded(str(path), lambda: with_loader.exec_module(module))
    return module


def _import(name: str) -> ModuleType:
    _see(Path.cwd())
    _shielded(name, lambda: importlib.import_module(name))
    return sys.modules[name]


def _see(folder: Path) -> None:
    """Let the author's modules import their neighbours. Last, so that none of them hides an installed one."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _shielded(place: str, execute: Any) -> None:
    """Run the author's module; whatever it raises becomes an error that shows the author's own lines.

    Raises:
        ServerLoadError: it could not be run to its end.
    """
    try:
        execute()
    except ModuleNotFoundError as exc:
        if exc.name and f"{place}.".startswith(f"{exc.name}."):
            raise ServerLoadError(f"There is no file or module {place}.") from None
        raise _crashed(place, exc) from exc
    except SyntaxError as exc:
        raise ServerLoadError(f"{exc.filename or place}, line {exc.lineno}: {exc.msg}.") from exc
    except TaskmillError as exc:
        line = _author_line(exc)
        raise ServerLoadError(f"{line or place}: {exc}", **exc.facts) from exc
    except SystemExit as exc:
        line = _author_line(exc)
        raise ServerLoadError(f"{line or place}: the module ended the program (sys.exit) while it was loaded.") from exc
    except Exception as exc:
        raise _crashed(place, exc) from exc


def _crashed(place: str, exc: Exception) -> ServerLoadError:
    trace = "".join(traceback.format_exception(type(exc), exc, _author_trace(exc)))
    return ServerLoadError(f"{place} could not be loaded: the traceback above says why.", trace=trace)


def _author_trace(exc: BaseException) -> TracebackType | None:
    """The traceback from the author's first frame on."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS_TO_SKIP):
        trace = trace.tb_next
    return trace


def _author_line(exc: BaseException) -> str:
    trace = _author_trace(exc)
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else ""


def _choose(module: ModuleType, place: str, name: str | None) -> ToolHost:
    """The object asked for; without a name a usual one, else the only one.

    Raises:
        ServerLoadError: none or several; the message says what to write.
    """
    found = {key: value for key, value in vars(module).items() if isinstance(value, TaskServer)}
    if name is not None:
        if name in found:
            return found[name]
        raise ServerLoadError(_not_a_server(module, place, name, list(found)))
    for usual in _USUAL_NAMES:
        if usual in found:
            return found[usual]
    if len({id(value) for value in found.values()}) == 1:
        return next(iter(found.values()))
    if found:
        choices = " or ".join(f"{place}:{key}" for key in found)
        raise ServerLoadError(f"{place} has several servers: write {choices}.")
    plain = next((key for key, value in vars(module).items() if isinstance(value, MCPServer)), None)
    if plain is not None:
        raise ServerLoadError(_plain_server(place, plain))
    raise ServerLoadError(
        f"{place} has no server object at its top level. Write there, and not inside a function:\n"
        "    from taskmill.server import TaskServer\n"
        '    mcp = TaskServer("My tools")'
    )


def _not_a_server(module: ModuleType, place: str, name: str, found: list[str]) -> str:
    if name not in vars(module):
        others = f" It has {', '.join(f'{place}:{key}' for key in found)}." if found else ""
        return f"{place} has no {name!r}.{others}"
    value = vars(module)[name]
    if isinstance(value, MCPServer):
        return _plain_server(place, name)
    return f"{place}:{name} is of type {type(value).__name__}, not a TaskServer."


def _plain_server(place: str, name: str) -> str:
    return (
        f"{place}:{name} is a plain MCPServer, which has no tasks. Change two lines; everything else stays:\n"
        "    from taskmill.server import TaskServer      # beside or instead of MCPServer\n"
        f"    {name} = TaskServer(...)      # with the arguments that MCPServer got"
    )
