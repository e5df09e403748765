"""What a host's file had before `--wrap`: kept in this user's state folder, so that `--unwrap` gives it back exactly.

Not beside the host's file: a project's folder may be shared, and an entry may have a token.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from taskmill.cli.install.config_file import write_private
from taskmill.cli.install.host_file import HostFile
from taskmill.cli.stdio.state_folder import user_state_folder
from taskmill.engine.errors import OperatorError

__all__ = ["forget_entry", "keep_entry", "kept_entry"]


def keep_entry(file: HostFile, name: str) -> None:
    """Keep an entry as it is written now.

    Raises:
        OperatorError: it cannot be kept.
    """
    kept = {"file": str(file.config.path), "path": [*file.path, name], "text": file.entry_text(name)}
    write_private(_path(file, name), json.dumps(kept))


def kept_entry(file: HostFile, name: str) -> str | None:
    """The entry as it was written, None if none is kept.

    Raises:
        OperatorError: it is kept, but cannot be read.
    """
    path = _path(file, name)
    try:
        return str(json.loads(path.read_text())["text"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise OperatorError(
            f"What {name} was before is kept in {path}, which cannot be read: {exc}. Copies of the host's file from "
            f"before each change are beside it: {file.config.path.name}.*.backup"
        ) from None


def forget_entry(file: HostFile, name: str) -> None:
    """Remove what was kept: it is where it belongs again."""
    _path(file, name).unlink(missing_ok=True)


def _path(file: HostFile, name: str) -> Path:
    place = json.dumps([os.path.realpath(file.config.path), *file.path, name])
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:24]
    return Path(user_state_folder(sys.platform, os.environ, str(Path.home())), "taskmill", "wrapped", f"{digest}.json")
