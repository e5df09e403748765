"""How the certificate of a Redis is checked: it must name the host, unless the address says otherwise.

redis-py 5 checks by itself only that some authority has signed it, so that any
server with a certificate could be Redis.
"""

from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["CHECKS_HOST", "tls_options", "tls_options_of"]

CHECKS_HOST = "ssl_check_hostname"
"""In an address: `?ssl_check_hostname=false`, for servers that are reached by an address which is not in it."""
_NO = ("0", "f", "false", "n", "no")


def tls_options(query: dict[str, str], *, is_tls: bool) -> dict[str, Any]:
    """Options of a redis-py connection; none without TLS. `query`: of the address; what is read is taken out."""
    said = query.pop(CHECKS_HOST, "true")
    return {CHECKS_HOST: said.lower() not in _NO} if is_tls else {}


def tls_options_of(url: str) -> dict[str, Any]:
    """The same of a `rediss://` address; none of any other."""
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return tls_options(query, is_tls=parts.scheme == "rediss")
