// The official TypeScript SDK 2.x in a page: `plain_client.mjs URL ERA TOOL ARGUMENTS`, with ERA `legacy` or `modern`.
//
// Lists the tools, makes one plain call and prints what came, as one JSON object a line.

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
const onprogress = ({ message }) => say("progress", { message });
const result = await client.callTool({ name: tool, arguments: JSON.parse(words) }, { onprogress });
say("result", { result });
await client.close();
