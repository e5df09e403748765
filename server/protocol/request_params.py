"""Parameters that methods of both task revisions share, as they come from a client."""

from mcp_types import RequestParams
from pydantic import Field

from taskmill.server.protocol.shapes_2026 import LONGEST_TASK_ID

__all__ = ["TaskIdParams"]


class TaskIdParams(RequestParams):
    """Of a request about one task."""

    task_id: str = Field(max_length=LONGEST_TASK_ID)
