// The official `ext-tasks` package on the TypeScript SDK 2.x: `node ext_tasks_client.mjs URL ERA ACTION TOOL [ARGUMENTS]`.
//
// `ERA` is `legacy` (2025-11-25) or `modern` (2026-07-28). The package asks a modern host to send its requests itself,
// because the SDK does not know what a task looks like; `dispatch` is that. Prints one JSON object a line.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createTaskSessionFromClient } from "@modelcontextprotocol/ext-tasks/client";

const REVISION = "2026-07-28";
const [url, era, action, tool, words] = process.argv.slice(2);
const clientInfo = { name: "ext-tasks", version: "1.0.0" };
const clientCapabilities = { elicitation: { form: {} } };

const say = (saw, facts) => console.log(JSON.stringify({ saw, ...facts }));

let requests = 0;

/** Send one request of the modern era; its answer, or its error. */
async function dispatch(request, options) {
  const headers = {
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
    "MCP-Protocol-Version": REVISION,
    "Mcp-Method": request.method,
    "Mcp-Name": request.params.taskId ?? request.params.name,
    ...options?.context?.headers,
  };
  const body = JSON.stringify({ jsonrpc: "2.0", id: `raw-${++requests}`, ...request });
  const response = await fetch(url, { method: "POST", headers, body, signal: options?.signal });
  const message = await lastMessage(response);
  return message.error ? { kind: "error", error: message.error } : { kind: "result", result: message.result };
}

/** The JSON-RPC answer of a response: its body, or the last event of its stream. */
async function lastMessage(response) {
  const text = await response.text();
  if (!response.headers.get("content-type").startsWith("text/event-stream")) return JSON.parse(text);
  const data = text.split("\n").filter((line) => line.startsWith("data: "));
  return JSON.parse(data.at(-1).slice("data: ".length));
}

const client = new Client(clientInfo, {
  capabilities: clientCapabilities,
  versionNegotiation: { mode: era === "modern" ? "auto" : "legacy" },
});
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const session = createTaskSessionFromClient(client, {
  endpointId: "client-tests",
  onError: (error) => say("error", { error: String(error) }),
  onInputRequest: async (request) => {
    say("question", { params: request.params });
    return { action: "accept", content: { row: 5, window: true } };
  },
  ...(era === "modern" && {
    rawDispatch: dispatch,
    v2RequestFraming: { protocolVersion: REVISION, clientInfo, clientCapabilities },
  }),
});
say("connected", { era: client.getProtocolEra(), capabilities: session.capabilities });

const execution = await session.callTool(tool, words ? JSON.parse(words) : {}, { task: { preference: "prefer" } });
say("execution", { kind: execution.kind, handle: execution.handle });

async function onEvent(event) {
  if (event.type === "task") say("status", { task: event.task.raw });
  if (action === "cancel" && event.task?.statusMessage?.includes("asleep")) {
    await execution.cancel();
    say("cancelled", {});
  }
}

const { outcome } = await execution.settle({ onEvent });
say("outcome", { status: outcome.status, result: outcome.result, error: outcome.error && String(outcome.error) });
await session.close();
await client.close();
