"""What the specifications, and our own promises, ask of a server with tasks: one line each, with where it stands.

Tests name the lines they hold with `@pytest.mark.requirement(...)`; `test_requirements.py` holds the two together.
"""

BASE = "https://modelcontextprotocol.io/specification/2025-11-25/basic/"
TASKS_2025 = BASE + "utilities/tasks"
TRANSPORTS = BASE + "transports"
TASKS_2026 = "https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/draft/tasks.md"
DESIGN = "README.md"

REQUIREMENTS = {
    # Both dialects
    "result-is-the-calls-own": (
        TASKS_2025 + "#task-execution-errors",
        "the result is what the call would return",
    ),
    "protocol-error": (TASKS_2025 + "#task-execution-errors", "a JSON-RPC error of the tool is that same error"),
    "crash-text-stays": (DESIGN, "a crash's own text stays on the server"),
    "status-says-how-far": (DESIGN, "every poll and push says in words how far the task is"),
    "unknown-id": (TASKS_2025 + "#protocol-errors", "unknown, expired and foreign ids are -32602 on every method"),
    "arguments-checked-first": (TASKS_2026, "a call that cannot work makes no task"),
    "last-updated": (TASKS_2025 + "#data-types", "lastUpdatedAt moves only when something changed"),
    "ttl-covers-life": (DESIGN, "while a task lives its ttl lies beyond its end"),
    "durable-creation": (TASKS_2026, "a handle is returned only after any replica can read the task"),
    "owner-only": (TASKS_2025 + "#task-isolation-and-access-control", "nobody else sees, answers or ends a task"),
    # 2025-11-25
    "capability-2025": (TASKS_2025 + "#server-capabilities", "tasks are declared at initialization"),
    "tool-support": (TASKS_2025 + "#tool-level-negotiation", "tools/list says taskSupport"),
    "required-2025": (TASKS_2025 + "#tool-level-negotiation", "a required tool without a task is -32601"),
    "create-2025": (TASKS_2025 + "#creating-tasks", "the handle is nested, and has words for a model"),
    "ttl-2025": (TASKS_2025 + "#ttl-and-resource-management", "a wished ttl is checked and cut to the limit"),
    "result-2025": (TASKS_2025 + "#retrieving-task-results", "tasks/result waits, and may be dropped and asked again"),
    "related-task": (TASKS_2025 + "#related-task-metadata", "what belongs to a task says so in _meta"),
    "tool-error-2025": (TASKS_2025 + "#task-execution-errors", "isError makes the task failed, with the text"),
    "cancel-2025": (TASKS_2025 + "#task-cancellation", "cancelled before the reply; an ended task is -32602"),
    "questions-2025": (TASKS_2025 + "#input-required-status", "questions come on the tasks/result stream"),
    "list-2025": (TASKS_2025 + "#listing-tasks", "own tasks only, in pages, with opaque cursors"),
    "status-notifications": (TASKS_2025 + "#task-notifications", "changes are pushed whole, without related-task"),
    "progress-2025": (TASKS_2025 + "#task-progress-notifications", "the original token counts until the end"),
    "earlier-revisions": (TASKS_2025 + "#task-support-and-handling", "an earlier revision's task member is ignored"),
    # 2026-07-28 with the extension
    "create-2026": (TASKS_2026, "the handle is flat, with ttlMs and pollIntervalMs; a legacy task member is ignored"),
    "capability-2026": (TASKS_2026, "the extension is advertised, the legacy slot is not"),
    "declares-per-request": (TASKS_2026, "each request declares the extension; a legacy declaration does not count"),
    "required-2026": (TASKS_2026, "a required tool without the extension is -32021 with requiredCapabilities"),
    "capability-before-id": (TASKS_2026, "the capability is checked before the id is looked up, on listen as well"),
    "result-2026": (TASKS_2026, "the result is inlined in tasks/get; there is no tasks/result"),
    "tool-error-2026": (TASKS_2026, "isError makes the task completed"),
    "cancel-2026": (TASKS_2026, "an empty acknowledgement, also for an ended task"),
    "questions-2026": (TASKS_2026, "inputRequests in tasks/get, answered by tasks/update"),
    "keys-never-reused": (TASKS_2026, "a question's key is used once in a task's life"),
    "partial-answers": (TASKS_2026, "partial answers are kept, unknown keys ignored before their values are read"),
    "list-2026": (TASKS_2026, "there is no tasks/list"),
    "headers-2026": (TASKS_2026, "Mcp-Name of a tasks method is the task id"),
    "no-progress-on-task": (TASKS_2026, "a task sends no progress and no log messages"),
    "notifications-2026": (TASKS_2026, "subscriptions/listen with taskIds pushes whole tasks"),
    # Sessions and streams of earlier revisions
    "any-replica": (DESIGN, "any replica serves any request of any session"),
    "session-ends": (TRANSPORTS + "#session-management", "an ended session is 404 everywhere"),
    "primed": (
        TRANSPORTS + "#sending-messages-to-the-server",
        "an event with an id and no data comes first",
    ),
    "closed-on-purpose": (TRANSPORTS + "#sending-messages-to-the-server", "a connection may be closed and polled back"),
    "resumed": (TRANSPORTS + "#resumability-and-redelivery", "GET with Last-Event-ID goes on without gap or repeat"),
    "own-streams-only": (TRANSPORTS + "#resumability-and-redelivery", "never another stream's or session's messages"),
    "disconnect-is-no-cancel": (TRANSPORTS + "#sending-messages-to-the-server", "only notifications/cancelled cancels"),
    "eras-do-not-mix": (TRANSPORTS + "#protocol-version-header", "one request, one era"),
    # Clients without tasks
    "held-progress": (DESIGN, "a held call brings progress as it happens"),
    "heartbeat": (DESIGN, "a held call beats, also while it is queued"),
    "drop-and-reattach": (DESIGN, "a lost client's task is dropped after a grace, unless the same call returns"),
    "hand-off": (DESIGN, "a call is handed off before its host's limit, in words that lead to the result"),
    "never-handed-off": (DESIGN, "a client that resets its limit on progress is never handed off"),
    "follow-up-tools": (DESIGN, "follow-up tools are for plain clients and their own tasks"),
}
"""id -> (where it stands, what it says)."""
