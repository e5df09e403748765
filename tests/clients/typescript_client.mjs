// The official TypeScript SDK 1.x against the client tests' server: `node typescript_client.mjs URL ACTION TOOL [ARGUMENTS
// [LIMIT]]`, the limit in milliseconds. Prints one JSON object a line for whatever the client is told.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const [url, action, tool, words, limit] = process.argv.slice(2);
const params = { name: tool, arguments: words ? JSON.parse(words) : {} };

const say = (saw, facts) => console.log(JSON.stringify({ saw, ...facts }));
const onprogress = (progress) => say("progress", progress);

const client = new Client(
  { name: "typescript-sdk-1", version: "1.0.0" },
  { capabilities: { elicitation: { form: {} }, tasks: { requests: { elicitation: { create: {} } } } } },
);
client.setRequestHandler(ElicitRequestSchema, (request) => {
  say("question", { params: request.params });
  return { action: "accept", content: { row: 5, window: true } };
});
client.fallbackNotificationHandler = async (notification) => say("notification", notification);

const actions = {
  /** Call it with progress, which moves the limit; without one it is the SDK's 60 s. */
  async call() {
    const onresumptiontoken = (token) => say("cursor", { token });
    const timeout = limit && Number(limit);
    const options = { onprogress, resetTimeoutOnProgress: true, onresumptiontoken, ...(timeout && { timeout }) };
    say("result", await client.callTool(params, CallToolResultSchema, options));
  },

  /** Call a tool that is refused, and then one that takes its time, for a transport that does not leave the first alone. */
  async refused() {
    const onresumptiontoken = (token) => say("cursor", { token });
    await client.callTool(params, CallToolResultSchema, { onprogress, onresumptiontoken }).then(
      (result) => say("result", result),
      (error) => say("error", { code: error.code, message: error.message }),
    );
    say("result", await client.callTool({ name: "count", arguments: { steps: 2, pause: 1.5 } }));
  },

  /** Let the SDK create the task, follow it and take its result. */
  async stream() {
    for await (const message of client.experimental.tasks.callToolStream(params, CallToolResultSchema, { onprogress })) {
      const { type, ...facts } = message;
      say(type, facts.error ? { error: String(facts.error), code: facts.error.code } : facts);
    }
  },

  /** Create a task and cancel it once it runs. */
  async cancel() {
    for await (const message of client.experimental.tasks.callToolStream(params)) {
      say(message.type, { task: message.task, error: message.error && String(message.error) });
      if (message.type === "taskStatus" && message.task.statusMessage?.includes("asleep")) {
        say("cancelled", await client.experimental.tasks.cancelTask(message.task.taskId));
      }
    }
  },
};

/** As always; tells of each GET, which is how the SDK listens and how it comes back to a call. */
async function watchedFetch(address, init) {
  const response = await fetch(address, init);
  const cursor = init.headers.get("last-event-id");
  if (init.method === "GET") say("get", { cursor, status: response.status });
  return response;
}

const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: watchedFetch });
await client.connect(transport);
say("connected", { revision: transport.protocolVersion, capabilities: client.getServerCapabilities() });
await client.listTools(); // tells the SDK which tools can be tasks
await actions[action]();
await client.close();
