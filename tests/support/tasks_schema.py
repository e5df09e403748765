"""Holds payloads against the schema that the tasks extension publishes, `tasks-extension.schema.json`."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["SCHEMA", "TERMINAL", "conforming"]

SCHEMA = json.loads(Path(__file__).with_name("tasks-extension.schema.json").read_text())
TERMINAL = {"completed", "failed", "cancelled"}
# The members that one status has and the others must not have; the schema's union cannot say the second half.
OWN_MEMBER = {"input_required": "inputRequests", "completed": "result", "failed": "error"}


def conforming(definition: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, once it is known to match `$defs/<definition>`.

    Raises:
        jsonschema.ValidationError: It does not match.
        AssertionError: It carries a member that belongs to another status.
    """
    Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"}).validate(payload)
    task = payload.get("params", payload)
    if "status" in task:
        # A task that is just being created has no payload at all, whatever its status.
        own = None if definition == "CreateTaskResult" else OWN_MEMBER.get(task["status"])
        foreign = (set(OWN_MEMBER.values()) - {own}) & task.keys()
        assert not foreign, f"a {task['status']} task may not carry {foreign}: {task}"
    return payload
