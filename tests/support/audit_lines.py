"""The audit trail in a file, as tests read it."""

import json
from pathlib import Path
from typing import Any

__all__ = ["audit_lines"]


def audit_lines(file: Path) -> list[dict[str, Any]]:
    """Its records, oldest first."""
    return [json.loads(line) for line in file.read_text().splitlines()]
