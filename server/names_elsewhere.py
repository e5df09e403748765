"""Names that authors look for in `taskmill.server`, or in `taskmill`, and that another module has."""

from importlib import import_module

__all__ = ["error_for_name"]

_OWN = {
    "taskmill.testing": ("CallRecord", "Eager", "TestBed", "bed_fixture"),
    "taskmill.store.settings": ("StoreSettings",),
    "taskmill.server.settings": ("ServerSettings",),
    "taskmill.workers.settings": ("WorkerSettings",),
}
_SEARCHED = (
    "mcp.server.mcpserver",
    "mcp.server.mcpserver.exceptions",
    "mcp.types",
    "taskmill.engine.errors",
    "mcp.server.auth.settings",
    "mcp.server.auth.provider",
)


def error_for_name(module: str, name: str) -> ImportError | AttributeError:
    """The error of an attribute that a module does not have.

    An `ImportError` if the name is elsewhere: `from module import name` would put its own text in the place of that of
    an `AttributeError`.
    """
    place = next((place for place, names in _OWN.items() if name in names), None)
    # Names of classes only: Python itself asks a package for the names of its modules.
    if place is None and name[:1].isupper():
        place = next((place for place in _SEARCHED if name in vars(import_module(place))), None)
    if place is None:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return ImportError(f"{module} has no {name}. Write: from {place} import {name}")
