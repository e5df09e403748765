// The official TypeScript SDK 2.x in a page: `plain_client.mjs URL ERA TOOL ARGUMENTS`, with ERA `legacy` or `modern`.
//
// Lists the tools, asks the HTTP API for a task that is not there, makes one plain call and prints what came, as one JSON
// object a line. The header is one that a browser asks leave for.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, era, tool, words] = process.argv.slice(2);
const say = (saw, facts) => console.log(JSON.stringify({ saw, ...facts }));

const client = new Client(
  { name: "page", version: "1.0.0" },
  { capabilities: {}, versionNegotiation: { mode: era === "modern" ? "auto" : "legacy" } },
);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
say("tools", { names: tools.map(({ name }) => name) });
const task = await fetch(new URL("/api/tasks/none", url), { headers: { "x-page": "1" } });
say("api", { status: task.status, problem: await task.json() });
const onprogress = ({ message }) => say("progress", { message });
const result = await client.callTool({ name: tool, arguments: JSON.parse(words) }, { onprogress });
say("result", { result });
await client.close();
