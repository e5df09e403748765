"""Which server wrote the data in a directory, and which servers can read it.

Only the first bytes of files are read. Nothing here changes a file, or looks for a server program.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Family", "StoredData", "Version", "stored_data"]

Family = Literal["Redis", "Valkey"]
Version = tuple[int, int]
"""Major and minor."""

# Where a server keeps its data by default, and ours does: one file before Redis 7.0, then a folder.
_SINGLE_FILE = "appendonly.aof"
_FOLDER = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"

# A base file is an RDB file (`REDIS` and four digits, from Valkey 9 on `VALKEY` and three), or else plain commands,
# which every server reads.
_HEADER = re.compile(rb"(?P<family>REDIS(?=\d{4})|VALKEY(?=\d{3}))(?P<number>\d+)")
_WRITER = re.compile(rb"\xfa.(?P<name>redis|valkey)-ver.(?P<version>(?P<major>\d+)\.(?P<minor>\d+)[\w.]*)", re.DOTALL)
_ENOUGH_BYTES = 256

# The oldest server that reads an RDB file of a number: RDB_VERSION in rdb.h of each project. Redis never reads a file
# of Valkey's own numbers, and Valkey no file of the numbers 12 to 79, which it calls foreign.
_FOLDER_SINCE: Version = (7, 0)
_REDIS_READS: dict[int, Version] = {9: (5, 0), 10: (7, 0), 11: (7, 2), 12: (7, 4)}
_VALKEY_READS: dict[int, Version] = {80: (9, 0)}
_LAST_COMMON_NUMBER = 11
_FIRST_VALKEY: Version = (7, 2)


@dataclass(frozen=True)
class StoredData:
    """The data in a directory, as the head of its base file describes it."""

    directory: Path
    writer: str
    """The server that wrote the base file, "Valkey 9.1.2"; "another server" where it does not say."""
    readers: dict[Family, Version]
    """The oldest version of each family that reads it; a family without one cannot."""

    def is_readable_by(self, family: Family, version: Version) -> bool:
        """Whether such a server opens the data, all of it."""
        return family in self.readers and version >= self.readers[family]


def stored_data(directory: Path) -> StoredData | None:
    """The data of an embedded Redis in `directory`, None where there is none."""
    in_folder = (directory / _FOLDER).is_dir()
    base = _base_file(directory / _FOLDER) if in_folder else directory / _SINGLE_FILE
    head = b""
    # A file that cannot be read says nothing here; the server will say why it cannot be opened.
    with contextlib.suppress(OSError), (base or directory).open("rb") as file:
        head = file.read(_ENOUGH_BYTES)
    if not in_folder and not head:
        return None
    writer = _WRITER.search(head)
    readers = _readers(head, (int(writer["major"]), int(writer["minor"])) if writer else None)
    if in_folder and "Redis" in readers:
        # An older one does not look into the folder: it would start empty, and every task be gone.
        readers["Redis"] = max(readers["Redis"], _FOLDER_SINCE)
    name = f"{writer['name'].decode().title()} {writer['version'].decode()}" if writer else "another server"
    return StoredData(directory, name, readers)


def _base_file(folder: Path) -> Path | None:
    """The file that the manifest calls the base; None when there is no manifest, or no base in it."""
    try:
        manifest = (folder / _MANIFEST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    named = re.search(r"^file (\S+) .*\btype b\b", manifest, re.MULTILINE)
    return folder / named[1] if named else None


def _readers(head: bytes, writer: Version | None) -> dict[Family, Version]:
    header = _HEADER.match(head)
    if header is None:
        return {"Redis": (0, 0), "Valkey": _FIRST_VALKEY}
    number = int(header["number"])
    # A number that is not in the tables is newer than they are: what wrote it reads it.
    if header["family"] == b"VALKEY":
        return {"Valkey": _VALKEY_READS.get(number) or writer or max(_VALKEY_READS.values())}
    redis = (0, 0) if number < min(_REDIS_READS) else _REDIS_READS.get(number) or writer or max(_REDIS_READS.values())
    return {"Redis": redis, "Valkey": _FIRST_VALKEY} if number <= _LAST_COMMON_NUMBER else {"Redis": redis}
