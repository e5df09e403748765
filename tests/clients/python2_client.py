"""The official Python SDK 2.x, without the tasks extension: `python python2_client.py URL ERA TOOL [ARGUMENTS]`.

`ERA` is the SDK's own word: `legacy` for the handshake of 2025-11-25, `2026-07-28` for what came after. Prints one JSON
object a line for whatever the client is told.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import Client

Json = dict[str, Any]


def say(kind: str, **facts: Any) -> None:
    print(json.dumps({"saw": kind, **facts}), flush=True)


async def progress(done: float, total: float | None, message: str | None) -> None:
    say("progress", progress=done, total=total, message=message)


async def main(url: str, era: str, tool: str, arguments: Json) -> None:
    async with Client(url, mode=era) as client:
        say("connected", revision=client.protocol_version)
        result = await client.call_tool(tool, arguments, progress_callback=progress)
        say("result", **result.model_dump(mode="json", by_alias=True, exclude_unset=True))


if __name__ == "__main__":
    url, era, tool, *rest = sys.argv[1:]
    asyncio.run(main(url, era, tool, json.loads(rest[0]) if rest else {}))
