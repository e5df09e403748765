"""A model for `review_pages.py` that runs on this machine and costs nothing. It speaks OpenAI's chat completions.

It lists the pages, reads one after the other, and then says how long each of them is. It prints a line for each answer
that it gives, so one sees how often it was asked, also when workers are killed. Not here: any intelligence.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8089


def next_move(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that comes behind this conversation."""
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not results:
        return call("list_pages", {})
    pages = results[0].splitlines()
    read = results[1:]
    if len(read) < len(pages):
        return call("read_page", {"name": pages[len(read)]})
    lines = [f"{page}: {len(text.split()):,} words" for page, text in zip(pages, read, strict=True)]
    return {"role": "assistant", "content": "\n".join(lines)}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    words = next(iter(arguments.values()), name)
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call-{words}", "type": "function", "function": function}],
    }


class Handler(BaseHTTPRequestHandler):
    """`POST .../chat/completions`."""

    seconds = 0.0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        time.sleep(self.seconds)  # a model thinks
        number = 1 + sum(message["role"] == "assistant" for message in body["messages"])
        message = next_move(body["messages"])
        calls = [one["function"] for one in message.get("tool_calls", ())]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        reply = {"id": f"answer-{number}", "object": "chat.completion", "created": 0, "model": body["model"]}
        text = json.dumps({**reply, "choices": [choice]}).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:
            print(f"answer {number}: who asked is gone", flush=True)
            return
        what = f"{calls[0]['name']} {calls[0]['arguments']}" if calls else "the end"
        print(f"answer {number}: {what}", flush=True)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until it is stopped. Arguments: seconds that each answer takes (0.5), and a port."""
    Handler.seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    port = int(sys.argv[2]) if len(sys.argv) > 2 else PORT
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"export OPENAI_BASE_URL=http://127.0.0.1:{server.server_port}/v1 OPENAI_API_KEY=none", flush=True)
        print("export TASKMILL_SAMPLING_MODEL=openai/scripted TASKMILL_SAMPLING_FROM=server", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
