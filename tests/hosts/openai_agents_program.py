"""An agent of the OpenAI Agents SDK with one MCP server, as its documentation has it. Argument: a JSON file.

The file has `url`, or `command` and `env`, and `prompt`. Run by the Python of the environment that has `openai-agents`.
"""

import asyncio
import json
import sys
from pathlib import Path

from agents import Agent, Runner
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp


async def main() -> None:
    """Run the agent to its end and print its last words."""
    given = json.loads(Path(sys.argv[1]).read_text())
    if given["url"]:
        server = MCPServerStreamableHttp(params={"url": given["url"]}, name="tests")
    else:
        command, *words = given["command"]
        server = MCPServerStdio(params={"command": command, "args": words, "env": given["env"]}, name="tests")
    async with server:
        agent = Agent(name="tests", instructions="Use the tools.", mcp_servers=[server], model="gpt-4o")
        print((await Runner.run(agent, given["prompt"], max_turns=30)).final_output)


asyncio.run(main())
