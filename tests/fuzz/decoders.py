"""Everything that reads bytes from outside, each with what it may raise, and good samples to mutate.

A decoder takes bytes, and returns or raises what its own documentation names. Anything else is a fault, also a
result that its callers cannot use. Hypothesis drives them in every run of the suite, atheris on demand.
"""

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mcp_types import CallToolRequestParams
from starlette.datastructures import Headers
from starlette.requests import Request

from taskmill.cli.client.arguments import parse_arguments, parse_object, split_pairs
from taskmill.cli.errors import UsageError
from taskmill.cli.install import json_editor as json_text
from taskmill.cli.install.json_parser import JsonError
from taskmill.engine.errors import BadArguments, BadCursor, DecryptionFailed, SettingsError
from taskmill.engine.outcome import outcome_from_json, outcome_to_json
from taskmill.engine.policy import FROM_META, TaskConfig
from taskmill.server.api import artifacts as artifact_api
from taskmill.server.api import requests as api_requests
from taskmill.server.api.shapes import event_json, task_json
from taskmill.server.fast_path import requests as fast_requests
from taskmill.server.http import scope_challenge
from taskmill.server.protocol.shapes_2026 import detailed_task
from taskmill.server.sessions import messages as session_messages
from taskmill.server.settings import ServerSettings
from taskmill.server.tools.answers import checked_answers
from taskmill.server.tools.call_keys import META_KEY, keys_of_call
from taskmill.store.connection.client import connect
from taskmill.store.formats.events import event_of
from taskmill.store.formats.paging import Cursors
from taskmill.store.formats.records import artifact_of, dict_of, format_errors, record_of
from taskmill.store.formats.sealing import Sealer
from taskmill.store.formats.views import view_of
from taskmill.store.settings import StoreSettings, read_settings
from taskmill.store.tasks.output import chunk_of
from taskmill.store.tasks.rerun import rerun_id
from taskmill.workers.isolation import messages
from taskmill.workers.settings import WorkerSettings
from tests.support.packed_events import pack_words

__all__ = ["DECODERS", "Decoder"]

KEY = bytes(range(32))
SEALER, PLAIN = Sealer([KEY]), Sealer()
RECORD = {
    "id": "t",
    "tool": "echo",
    "queue": "default",
    "principal": "p",
    "status": "running",
    "seq": "3",
    "fence": "1",
    "created_ms": "1000",
    "updated_ms": "2000",
    "attempt": "1",
    "retention_ms": "60000",
    "poll_ms": "1000",
    "done": "1",
    "total": "4",
    "message": "one",
    "lane": "x",
    "lane_limit": "2",
    "rate": "1/1000/start",
}


@dataclass(frozen=True)
class Decoder:
    """One."""

    read: Callable[[bytes], Any]
    may_raise: tuple[type[Exception], ...]
    samples: tuple[bytes, ...]
    """Good ones: each must be read without an error."""


def _flat(fields: dict[str, str]) -> bytes:
    return b"\n".join(word.encode() for pair in fields.items() for word in pair)


def _words(data: bytes) -> list[bytes]:
    """A flat list of an even number of words, as Redis gives a hash."""
    words = data.split(b"\n")
    return words[: len(words) // 2 * 2]


def _hash(data: bytes) -> dict[bytes, bytes]:
    words = _words(data)
    return {words[at]: words[at + 1] for at in range(0, len(words), 2)}


def _record(data: bytes) -> None:
    assert record_of("t", dict_of(_words(data))).seq >= 0


def _event(data: bytes) -> None:
    event = event_of("t", data)
    assert event.seq >= 0
    event_json(event, to_operator=True)


def _chunk(data: bytes) -> None:
    entry, _, fields = data.partition(b"|")
    assert chunk_of("t", entry, _hash(fields), PLAIN).number >= 0


def _view(data: bytes) -> None:
    record, outcome, questions = (*data.split(b"|"), b"", b"")[:3]
    view = view_of("t", PLAIN, record=_words(record), outcome=outcome or None, questions=_words(questions), ahead=-1)
    task_json(view, to_operator=True)
    detailed_task(view)
    assert all(isinstance(asked, dict) for asked in view.questions.values())


def _sealed(data: bytes) -> None:
    SEALER.open(data, task_id="t", field="args")


def _plain(data: bytes) -> None:
    PLAIN.open(data, task_id="t", field="args")


def _outcome(data: bytes) -> None:
    outcome = outcome_from_json(json.loads(data))
    assert outcome_from_json(outcome_to_json(outcome)) == outcome or data.find(b"NaN") >= 0


def _block(data: bytes) -> None:
    SEALER.open_block(data, "blob", 0)


def _sealed_block() -> bytes:
    key_id, nonce = hashlib.sha256(KEY).digest()[:4], bytes(12)
    return key_id + nonce + AESGCM(KEY).encrypt(nonce, b"bytes", b"4:blob:block:0")


def _artifact(data: bytes) -> None:
    with format_errors():
        known = {name.decode(): value.decode() for name, value in _hash(data).items()}
    artifact = artifact_of("a", known)
    assert artifact.size >= 0


def _cursor(data: bytes) -> None:
    score, task_id = Cursors(KEY).read("ann", data.decode("utf-8", "surrogateescape"))
    assert (score, task_id) in (("1000", "t"), ("", ""))


def _request(*headers: tuple[bytes, bytes], query: bytes = b"") -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": list(headers), "query_string": query})


def _last_event_id(data: bytes) -> None:
    assert 0 <= api_requests.cursor_of(_request((b"last-event-id", data))) < 10**15
    assert 0 <= api_requests.cursor_of(_request(query=b"after=" + data)) <= 10**15


def _range(data: bytes) -> None:
    first, _, second = data.partition(b"\n")
    headers = Headers(raw=[(b"range", first), *([(b"if-range", second)] if second else [])])
    for size in (0, 1, 10):
        wanted = artifact_api._byte_range(headers, size, '"e"')
        assert wanted is None or 0 <= wanted[0] <= wanted[1] <= size, wanted
        assert wanted is None or wanted[0] < wanted[1] or size == 0, wanted


def _idempotency(data: bytes) -> None:
    """The client's own key, and what an author makes of arguments."""
    value = _json(data)
    named = CallToolRequestParams.model_validate({"name": "x", "_meta": {META_KEY: value}}, by_name=False)
    keys_of_call(TaskConfig(idempotency=FROM_META), named, {"value": value}, "p")
    of_arguments = TaskConfig(idempotency=["value"], concurrency_key="{value}:{principal}")
    assert keys_of_call(of_arguments, named, {"value": value}, "p").idempotency
    assert len(rerun_id(KEY, "t", data.decode("latin-1"))) == 43


def _json(data: bytes) -> Any:
    """JSON, or where it is none the text itself."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "surrogateescape")


def _answers(data: bytes) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    form = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": schema}}
    link = {"method": "elicitation/create", "params": {"message": "?", "mode": "url"}}
    asked = {"a": form, "b": {"method": "sampling/createMessage"}, "c": {"method": "roots/list"}, "d": link}
    asked["e"] = {"method": "sampling/createMessage", "params": {"tools": []}}
    for key in asked:
        with contextlib.suppress(BadArguments):
            json.dumps(checked_answers(asked, {key: _json(data), "x": _json(data)}))


def _message(data: bytes) -> None:
    session_messages.parse_message(data)


def _poll(data: bytes) -> None:
    found = fast_requests.read_request(data)
    assert found is None or (type(found.id) in (int, str) and isinstance(found.routing_name, str))
    assert found is None or len(found.params.get("taskId", "")) <= 256
    assert isinstance(scope_challenge._called_tool(data), str | None)


def _config(data: bytes) -> None:
    """A host's configuration: read, changed and put back."""
    text = data.decode("utf-8", "replace")
    for lenient in (False, True):
        with contextlib.suppress(JsonError):
            put = json_text.set_member(text, ("servers", "taskmill"), {"command": "x"}, allow_comments=lenient)
            assert json_text.value_at(put, ("servers", "taskmill"), None, allow_comments=lenient) == {"command": "x"}
            dropped = json_text.remove_member(put, ("servers", "taskmill"), allow_comments=lenient)
            assert json_text.value_at(dropped, ("servers", "taskmill"), "gone", allow_comments=lenient) == "gone"


def _command_line(data: bytes) -> None:
    words = [word.replace("@", "") for word in data.decode("utf-8", "surrogateescape").split("\n")]
    schema = {"properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    with contextlib.suppress(UsageError):
        parse_arguments(split_pairs(words), schema)
    parse_object(words[0])


def _settings(data: bytes) -> None:
    """Whatever stands in the environment, settings that are made of it can be worked with."""
    named = dict(line.split("=", 1) for line in data.decode("utf-8", "surrogateescape").split("\n") if "=" in line)
    for kind in (StoreSettings, ServerSettings, WorkerSettings):
        with _environment({f"TASKMILL_{name}": value.replace("\0", "") for name, value in named.items()}):
            settings = read_settings(kind)
        assert settings.lease_ms > 0
        assert timedelta(0) <= settings.kept_for(timedelta(days=1)) <= timedelta(days=1)
        seconds = [value for name, value in settings if isinstance(value, float)]
        assert all(int(value * 1000) >= 0 for value in seconds)
        Sealer(settings.seal_keys)
        if settings.redis_url is not None:
            connect(settings)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Nothing of ours but these. A name that no environment can have is left out."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("TASKMILL_")}
    put = {name: value for name, value in variables.items() if "\0" not in name}
    os.environ.update(put)
    try:
        yield
    finally:
        for name in put:
            os.environ.pop(name, None)
        os.environ.update(before)


def _tool_messages(data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        while (message := await messages.read_message(reader)) is not None:
            repr(message)

    asyncio.run(read())


_CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}).encode()
_POLL = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks/get",
        "params": {
            "taskId": "t",
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
            },
        },
    }
).encode()
_ARTIFACT = {
    "task": "t",
    "principal": "p",
    "name": "a.txt",
    "mime": "text/plain",
    "size": "3",
    "digest": "d",
    "place": "redis",
    "sealed": "1",
}
_EVENT = pack_words(["3", "progress", "1000", "done", "1", "total", "4", "message", "one" * 20, "due_ms", "1.5e3"])
_RETURNED = b'{"returned": {"content": []}, "is_error": false}'

DECODERS: dict[str, Decoder] = {
    "records": Decoder(_record, (DecryptionFailed,), (_flat(RECORD),)),
    "feed entries": Decoder(_event, (DecryptionFailed,), (_EVENT, pack_words(["1", "create", "1", "tool", "x"]))),
    "output chunks": Decoder(_chunk, (DecryptionFailed,), (b'1-0|attempt\n1\nat\n5\nchunk\n"text"',)),
    "views": Decoder(
        _view,
        (DecryptionFailed,),
        (
            _flat({**RECORD, "status": "completed"}) + b"|" + _RETURNED,
            _flat({**RECORD, "status": "input_required"}) + b'||q-1\n{"method": "roots/list"}',
        ),
    ),
    "sealed values": Decoder(_sealed, (DecryptionFailed,), (SEALER.seal({"a": [1, "x"]}, task_id="t", field="args"),)),
    "arguments": Decoder(_plain, (DecryptionFailed,), (b'{"arguments": {"a": 1}, "caller": {"scopes": []}}',)),
    "outcomes": Decoder(
        _outcome,
        (ValueError, RecursionError),
        (
            _RETURNED,
            b'{"refused": {"code": 1, "message": "x", "data": null}}',
            b'{"broke": {"fault": "timeout", "text": "x"}}',
        ),
    ),
    "sealed blocks": Decoder(_block, (DecryptionFailed,), (_sealed_block(),)),
    "artifact manifests": Decoder(_artifact, (DecryptionFailed,), (_flat(_ARTIFACT),)),
    "cursors": Decoder(_cursor, (BadCursor,), (Cursors(KEY).write("ann", b"1000", b"t").encode(),)),
    "Last-Event-ID": Decoder(_last_event_id, (BadArguments,), (b"7", b"0")),
    "ranges": Decoder(_range, (), (b"bytes=0-4", b"bytes=-3", b'bytes=2-\n"e"')),
    "idempotency keys": Decoder(_idempotency, (BadArguments,), (b'"monday"', b"monday")),
    "answers": Decoder(_answers, (), (b'{"action": "accept", "content": {"name": "x"}}', b'{"roots": []}')),
    "messages": Decoder(_message, (session_messages.HttpError,), (_CALL, b'{"jsonrpc": "2.0", "id": 1, "result": {}}')),
    "polls": Decoder(_poll, (), (_POLL, _CALL)),
    "configurations": Decoder(
        _config,
        (),
        (b'{\n  // mine\n  "servers": {"a": 1, "taskmill": {"b": "y"}},\n}', b'{"servers": {}}', b"{}"),
    ),
    "command lines": Decoder(_command_line, (UsageError,), (b'{"a": 1}', b"{}\na=1\nb=x")),
    "settings": Decoder(
        _settings,
        (SettingsError,),
        (
            b"REDIS_URL=redis://u:p@h:1/0\nLEASE=15\nSEAL_KEYS="
            + b"A" * 43
            + b"=\nPORT=0\nALLOWED_HOSTS=a,b\nSESSION_IDLE=9",
            b"RETENTION_LIMIT=100\nARTIFACTS=dir:/x\nCONCURRENCY=5\nGRACE=1\nCOMMAND_TIMEOUT=5\nQUEUE=a,b\nHANDOFF_AFTER=9",
        ),
    ),
    "tool messages": Decoder(
        _tool_messages, (ValueError, RecursionError), (messages.encoded({"a": 1}), messages.encoded({"a": 1}) * 2)
    ),
}
"""Name -> decoder."""
