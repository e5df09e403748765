"""The tasks extension for the official SDK's client: `Client(url, extensions=[TasksExtension()])`.

The SDK leaves extensions to its users; this one is what a user would write. It finishes a call that became a task by
polling, and answers the task's questions.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import anyio
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientRequestContext, ClientSession, ElicitationFnT
from mcp.types import (
    CallToolResult,
    ElicitRequestFormParams,
    ElicitResult,
    Request,
    RequestParams,
    Result,
    TextContent,
)
from pydantic import ConfigDict

__all__ = ["CreatedTask", "TasksExtension", "send_tasks"]

TERMINAL = {"completed", "failed", "cancelled"}
Json = dict[str, Any]


class AnyResult(Result):
    """A result of any shape."""

    model_config = ConfigDict(extra="allow")

    def payload(self) -> Json:
        """As it was on the wire."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class CreatedTask(AnyResult):
    """What `tools/call` returns when the call became a task."""

    result_type: Literal["task"]
    task_id: str


class TaskParams(RequestParams):
    """Which task, and the answers where the method takes any."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class TaskRequest(Request[TaskParams, str]):
    """One of the three `tasks/*` methods; the task's id goes into the Mcp-Name header."""

    name_param: ClassVar[str | None] = "taskId"


async def send_tasks(session: ClientSession, method: str, task_id: str, answers: Json | None = None) -> Json:
    """Send `tasks/get`, `tasks/update` or `tasks/cancel`; returns the result as it was on the wire."""
    params = TaskParams(task_id=task_id, input_responses=answers)
    result = await session.send_request(TaskRequest(method=method, params=params), AnyResult)
    return result.payload()


class TasksExtension(ClientExtension):
    """Finishes calls that became tasks.

    `seen` gets each payload of the extension together with the name of its shape in the schema. `elicit` answers the
    questions; give the client the same function, because that is how it tells the server that it can be asked.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(
        self,
        seen: Callable[[str, Json], None] = lambda shape, payload: None,
        elicit: ElicitationFnT | None = None,
    ) -> None:
        self._seen = seen
        self._elicit = elicit

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._follow)]

    async def _follow(self, created: CreatedTask, context: ClaimContext) -> CallToolResult:
        self._seen("CreateTaskResult", created.payload())
        answered: set[str] = set()
        while True:
            task = await send_tasks(context.session, "tasks/get", created.task_id)
            self._seen("GetTaskResult", task)
            if task["status"] in TERMINAL:
                return _outcome(task)
            # Keys are never used twice, so one that was answered is only not taken note of yet.
            questions = {key: ask for key, ask in task.get("inputRequests", {}).items() if key not in answered}
            if questions:
                answers = {key: await self._reply(context.session, key, ask) for key, ask in questions.items()}
                done = await send_tasks(context.session, "tasks/update", created.task_id, answers)
                self._seen("UpdateTaskResult", done)
                answered |= answers.keys()
            await anyio.sleep(task.get("pollIntervalMs", 1000) / 1000)

    async def _reply(self, session: ClientSession, key: str, question: Json) -> Json:
        assert self._elicit, f"asked although this client cannot be: {question}"
        assert question["method"] == "elicitation/create", f"this client cannot answer {question['method']}"
        params = ElicitRequestFormParams.model_validate(question["params"])
        answer = await self._elicit(ClientRequestContext(session=session, request_id=key), params)
        assert isinstance(answer, ElicitResult)
        return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def _outcome(task: Json) -> CallToolResult:
    if task["status"] == "completed":
        return CallToolResult.model_validate(task["result"])
    reason = task["error"]["message"] if task["status"] == "failed" else "the task was cancelled"
    return CallToolResult(content=[TextContent(type="text", text=reason)], is_error=True)
