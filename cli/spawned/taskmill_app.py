"""The package of an author's file, for processes that this one starts: `multiprocessing`, joblib.

They unpickle a function by the name of its module, `taskmill_app.server`, with the search path and the environment of
the process that loaded the file (`loading.py`), which never imports this. Nothing of Taskmill is imported here.
"""

import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__: list[str] = []

_file = Path(os.environ["_TASKMILL_APP_FILE"])
__path__ = [str(_file.parent)]


class _FileFinder(MetaPathFinder):
    """Finds the file itself, whose name may be no name of a module (`my-tools.py`)."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The file, None for every other module."""
        own = f"{__name__}." + re.sub(r"\W", "_", _file.stem)
        return spec_from_file_location(fullname, _file) if fullname == own else None


sys.meta_path.append(_FileFinder())
