"""Where a request goes, wherever the application is mounted."""

from starlette.types import Scope

__all__ = ["path_of"]


def path_of(scope: Scope) -> str:
    """The path inside this application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
