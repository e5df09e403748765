"""Where a server and its tools come from: what another process imports to have the same ones."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from typing import Any

from taskmill.engine.errors import PolicyError

__all__ = ["import_path_of", "require_importable"]


def import_path_of(server: object) -> str | None:
    """What another process loads a server by, None if nothing can.

    `package.module:name` or `file.py:name`, if the server is at the top level of a module.
    """
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is not server:
                continue
            file = getattr(module, "__file__", None)
            # `python -m package.module` keeps the name in the spec; that of `python file.py` has none.
            spec = getattr(module, "__spec__", None)
            module_name = spec.name if spec is not None else module.__name__
            if _is_importable(module_name, file):
                return f"{module_name}:{name}"
            return f"{file}:{name}" if file else None
    return None


def _is_importable(name: str, file: str | None) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    # A module on its own is found through a path that only this process may have.
    return "." in name and spec is not None and spec.origin == file


def require_importable(function: Callable[..., Any]) -> None:
    """Return if another process can find the function by its name.

    Raises:
        PolicyError: it is inside another function, or a lambda.
    """
    name = getattr(inspect.unwrap(function), "__qualname__", "<callable>")
    if "<" in name:
        raise PolicyError(
            f"isolation='process' needs a function at the top level of a module, which another process can find; "
            f"{name} is not one"
        )
