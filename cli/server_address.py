"""What `--url` names: the address of a server or of its MCP endpoint, and where its endpoint and its API are then."""

from urllib.parse import SplitResult, urlsplit, urlunsplit

from taskmill.cli.errors import UsageError

__all__ = ["api_url", "endpoint_of"]


def api_url(url: str) -> str:
    """The address of the API.

    Raises:
        UsageError: `url` is no address.
    """
    parts = _parts_of(url)
    path = parts.path.rstrip("/").removesuffix("/mcp").removesuffix("/api")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/api", "", ""))


def endpoint_of(url: str) -> str:
    """The MCP endpoint: `url` itself, if it has a path, be it a slash only.

    Raises:
        UsageError: `url` is no address.
    """
    parts = _parts_of(url)
    path = parts.path.removesuffix("/api")
    return urlunsplit((parts.scheme, parts.netloc, path or "/mcp", parts.query, ""))


def _parts_of(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--url must be an address such as http://127.0.0.1:8000, not {url!r}.")
    return parts
