"""The address of a Redis cluster, and the hash tag that puts all keys of a deployment, or of one part, in one slot.

`redis+cluster://[user:password@]host:6379,host:6379[?part=2of3]`; `rediss+cluster://` for TLS. Nothing here talks to
Redis.
"""

import re
from binascii import crc_hqx
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from taskmill.store.formats.tls_options import CHECKS_HOST, tls_options

__all__ = ["SLOTS", "ClusterAddress", "cluster_address_of", "cluster_part_of", "slot_of", "tag_of"]

SLOTS = 16384
"""Of every cluster; each belongs to one primary."""
_SCHEMES = ("redis+cluster", "rediss+cluster")
_PORT = 6379
_PART = re.compile(r"([1-9][0-9]{0,3})of([1-9][0-9]{0,3})")

Part = tuple[int, int]
"""Which one, of how many."""


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """What an address says."""

    nodes: tuple[tuple[str, int], ...]
    """Some of the cluster's; the others are learned from them."""
    login: dict[str, Any] = field(repr=False)
    """For connections: username, password, and how a certificate is checked."""
    is_tls: bool
    part: Part | None


def cluster_address_of(url: str) -> ClusterAddress | None:
    """What an address of this form says; None for an address of another form.

    Raises:
        ValueError: it cannot be read; the text says why, and quotes none of it.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        return None
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has database 0 alone; write redis+cluster://host:port,host:port")
    query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    part, is_tls = query.pop("part", None), parts.scheme == "rediss+cluster"
    tls = tls_options(query, is_tls=is_tls)
    if query:
        raise ValueError(f"of a cluster's address, ?part=2of3 and {CHECKS_HOST} are all that may follow the hosts")
    return ClusterAddress(
        nodes=tuple(map(_node, hosts.split(","))),
        login={"username": unquote(username) or None, "password": unquote(password) or None, **tls},
        is_tls=is_tls,
        part=None if part is None else _part(part),
    )


def cluster_part_of(url: str | None) -> tuple[bool, Part | None]:
    """Whether an address is a cluster's, and the part that it names."""
    address = cluster_address_of(url or "")
    return (False, None) if address is None else (True, address.part)


def slot_of(tag: str) -> int:
    """The slot of all keys with this hash tag."""
    return crc_hqx(tag.encode(), 0) % SLOTS


@lru_cache(maxsize=256)
def tag_of(prefix: str, part: Part | None) -> str:
    """The hash tag of a deployment, or of one part of it. It never changes: what is stored would be lost.

    The slot of part k of n is in the middle half of the k-th of n equal ranges. So n parts are on n primaries, where
    these have equal ranges, or on every second of 2n.
    """
    if part is None:
        return prefix
    number, total = part
    width = SLOTS / total
    lowest, highest = (number - 0.75) * width, (number - 0.25) * width
    at = 0
    while not lowest <= slot_of(tag := f"{prefix}/{number}of{total}/{at}") < highest:
        at += 1
    return tag


def _part(text: str) -> Part:
    found = _PART.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]) or int(found[2]) > 1000:
        raise ValueError("?part= names one of several equal parts: 1of3, 2of3 or 3of3; of 1000 at most")
    return int(found[1]), int(found[2])


def _node(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise ValueError("a node without a host, or with a port that is no number; write redis+cluster://host:port")
    return host, port or _PORT
