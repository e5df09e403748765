"""Have a model answer a question about a folder: it lists and reads files until it knows. Each of its turns is a step.

Here: the tool, what the model may do, and one request to it. Any server that speaks OpenAI's chat completions will do:
MODEL_URL, MODEL_NAME and, where it wants one, MODEL_KEY. Not here: writing files.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from taskmill.server import Context, Retry, TaskConfig, TaskServer

mcp = TaskServer("Model loop")

TURNS = 30
TIMEOUT = httpx2.Timeout(600, connect=10)
BUSY = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
LISTED, READ = 500, 40_000
NEVER_LISTED = frozenset({".git", ".venv", "__pycache__", "node_modules"})
ROLE = (
    "You answer questions about the files of one folder. Look before you answer, and name the files that you rely on."
)
POLICY = TaskConfig(retries=5, backoff=5, retry_on=httpx2.TransportError)


def function(name: str, description: str, argument: str) -> dict[str, Any]:
    """A tool of one text argument, as chat completions describe it."""
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


FUNCTIONS = [
    function("list_files", "Names of files in the folder; `pattern` is a glob such as **/*.py", "pattern"),
    function("read_file", f"The text of a file, {READ:,} characters at most", "path"),
]


class Answered(BaseModel):
    answer: str
    turns: int
    tokens: int
    """As the model's server counts them; 0 if it does not."""


def do(folder: str, name: str, arguments: str) -> str:
    """What a function of the model returns. A model reads what was wrong, and tries again."""
    try:
        words = json.loads(arguments)
        if name == "list_files":
            return list_files(Path(folder), str(words["pattern"]))
        if name == "read_file":
            return read_file(Path(folder), str(words["path"]))
    except (ValueError, KeyError, TypeError, OSError, NotImplementedError) as error:
        return f"Error: {type(error).__name__}: {error}"
    return f"Error: there is no function {name}."


def list_files(folder: Path, pattern: str) -> str:
    found = [path.relative_to(folder) for path in folder.glob(pattern) if path.is_file() and inside(folder, path)]
    names = sorted(str(path) for path in found if not NEVER_LISTED.intersection(path.parts))
    more = [f"... and {len(names) - LISTED:,} more"] if len(names) > LISTED else []
    return "\n".join([*names[:LISTED], *more]) or "No file fits."


def read_file(folder: Path, name: str) -> str:
    path = folder / name
    if not inside(folder, path):
        return "Error: that is outside of the folder."
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(READ)


def inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


async def complete(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """One turn of the model: `{"message": ..., "tokens": ...}`. It costs money, so it is called as a step.

    Raises:
        Retry: the model's server is busy.
        ToolError: it refuses, or is none.
    """
    url = f"{os.environ['MODEL_URL'].rstrip('/')}/chat/completions"
    key = os.environ.get("MODEL_KEY")
    body = {"model": os.environ.get("MODEL_NAME", "default"), "messages": messages, "tools": FUNCTIONS}
    async with httpx2.AsyncClient(timeout=TIMEOUT) as http:
        try:
            reply = await http.post(url, json=body, headers={"authorization": f"Bearer {key}"} if key else {})
        except httpx2.ConnectError as error:
            raise ToolError(f"No model answers at {url}: {error}. Start it, or set MODEL_URL.") from None
    if reply.status_code in BUSY:
        seconds = reply.headers.get("retry-after", "")  # it may also be a date
        raise Retry(
            f"the model's server is busy ({reply.status_code})", after=int(seconds) if seconds.isdecimal() else 10
        )
    try:
        answer = reply.json()
        message = answer["choices"][0]["message"]
    except (ValueError, LookupError, TypeError):
        said = f"HTTP status {reply.status_code}: {reply.text[:300]}"
        raise ToolError(f"{url} gave no turn of a model. Check MODEL_URL, MODEL_NAME and MODEL_KEY. {said}") from None
    return {"message": message, "tokens": (answer.get("usage") or {}).get("total_tokens", 0)}


def checked(folder: str) -> Path:
    """The folder.

    Raises:
        ToolError: it is none, or there is no model.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise ToolError(f"{path} is no folder. Name one that can be read.")
    if not os.environ.get("MODEL_URL"):
        raise ToolError(
            "No model is set. Start the server with MODEL_URL, the address of chat completions without its last part "
            "(http://127.0.0.1:11434/v1 for Ollama), MODEL_NAME and, if it wants one, MODEL_KEY."
        )
    return path


@mcp.tool(task=POLICY)
async def ask_folder(question: str, folder: str, ctx: Context) -> Annotated[CallToolResult, Answered]:
    """Have a model answer a question about the files of a folder."""
    path = checked(folder)
    messages: list[dict[str, Any]] = [{"role": "system", "content": ROLE}, {"role": "user", "content": question}]
    tokens = 0
    for turn in range(1, TURNS + 1):
        # A step: a worker that takes over is given this turn, and does not pay for it again.
        made = await ctx.step(f"turn {turn}", complete, messages)
        message, tokens = made["message"], tokens + made["tokens"]
        messages.append(message)
        if not (calls := message.get("tool_calls")):
            answer = Answered(answer=message.get("content") or "", turns=turn, tokens=tokens)
            text = TextContent(type="text", text=answer.answer)
            return CallToolResult(content=[text], structured_content=answer.model_dump(mode="json"))
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            await ctx.report_progress(turn, TURNS, f"{name} {arguments}"[:100])
            # A step too: the file may have changed when another worker takes over, and turns build on each other.
            result = await ctx.step(f"turn {turn}: {name}", do, str(path), name, arguments)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    raise ToolError(f"The model had no answer in {TURNS} turns. Ask a smaller question.")
