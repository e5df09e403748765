// A host as most are, and the model behind it: `node model_client.mjs SERVER TOOL ARGUMENTS LIMIT`. SERVER: an address, or a
// command with its words as a JSON list, which is started and spoken with over its standard input and output.
//
// The host knows no tasks, asks for no progress and gives a call up after LIMIT milliseconds. The model reads what comes
// back: as long as the words name one of the listed tools and the value that it takes, it calls that tool. Prints one JSON
// object a line: each call, how long it took, and its answer.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [server, tool, words, limit] = process.argv.slice(2);

function transport() {
  if (!server.startsWith("[")) return new StreamableHTTPClientTransport(new URL(server));
  const [command, ...args] = JSON.parse(server);
  return new StdioClientTransport({ command, args, env: process.env });
}

const client = new Client({ name: "some-host", version: "1.0.0" }, { capabilities: {} });
await client.connect(transport());
const { tools } = await client.listTools();

async function call(name, args) {
  const start = performance.now();
  const answer = await client.callTool({ name, arguments: args }, undefined, { timeout: Number(limit) });
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ saw: "answer", tool: name, arguments: args, seconds, ...answer }));
  return answer;
}

/** The call that the words ask for, or undefined. */
function next(answer) {
  const text = answer.content.map((block) => block.text ?? "").join("\n");
  const mentioned = tools
    .map(({ name, inputSchema }) => ({ name, takes: inputSchema.required ?? [], at: text.search(`\\b${name}\\b`) }))
    .filter(({ at, takes }) => at >= 0 && takes.includes("task_id"))
    .sort((one, other) => one.at - other.at);
  const id = text.match(/[A-Za-z0-9_-]{40,}/)?.[0];
  return mentioned.length && id ? { name: mentioned[0].name, args: { task_id: id } } : undefined;
}

console.log(JSON.stringify({ saw: "tools", names: tools.map(({ name }) => name) }));
let answer = await call(tool, JSON.parse(words));
for (let step; (step = next(answer)); ) answer = await call(step.name, step.args);
await client.close();
