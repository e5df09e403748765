"""Where seal keys come from, and how they are exchanged while replicas run: settings, a file, a key service."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from structlog.testing import capture_logs

from taskmill.engine.errors import DecryptionFailed, SealKeyAwaited, SealKeyMissing, SettingsError
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Returned
from taskmill.engine.record import Progress
from taskmill.engine.replay import step_entry
from taskmill.store.claims.claims import Question
from taskmill.store.claims.journal import JournalStore
from taskmill.store.formats.sealing import Sealer
from taskmill.store.opening import open_store
from taskmill.store.seal_keys import open_keys, sealer_of
from taskmill.store.sessions.sessions import Session
from taskmill.store.settings import StoreSettings, read_settings
from tests.support.store_fixture import DONE, OWNER, StoreFixture

OLD, NEW, MASTER = b"o" * 32, b"n" * 32, b"m" * 32
STEPS = [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (NEW,))]
"""Of docs/security.md: what replicas have at the same time in a rolling deploy."""
PAIRS = [*[pair for step in STEPS for pair in (step, step[::-1])], ((OLD,), (NEW, OLD))]
"""The keys of who wrote it, and of who reads it."""
MADE = step_entry("b9", "render", "digest")
DECRYPTER = """
import base64, http.server, json
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        wrapped = base64.b64decode(asked["ciphertext"])
        key = AESGCM(b"m" * 32).decrypt(wrapped[:12], wrapped[12:], None)
        reply = json.dumps({"plaintext": base64.b64encode(key).decode()}).encode()
        self.send_response(200 if self.headers["authorization"] == "Bearer open" else 403)
        self.end_headers()
        self.wfile.write(reply)

server = http.server.HTTPServer(("127.0.0.1", 0), Service)
print(server.server_port, flush=True)
server.serve_forever()
"""


def in_base64(*keys: bytes) -> str:
    return "\n".join(base64.b64encode(key).decode() for key in keys)


def wrapped(*keys: bytes) -> str:
    return ",".join(base64.b64encode(bytes(12) + AESGCM(MASTER).encrypt(bytes(12), key, None)).decode() for key in keys)


async def until(is_so: Any) -> None:
    with anyio.fail_after(30):
        while not is_so():
            await anyio.sleep(0.01)


async def write_all(writer: StoreFixture) -> tuple[Any, Any, str]:
    """A running task, an ended one and a cursor, with everything that is sealed or signed."""
    claimed, ended, failed = [await writer.start(arguments={"n": 1}, listed_for=OWNER) for _ in range(3)]
    journal = JournalStore(writer.redis, writer.settings, writer.ann.scripts)
    step = journal.pack_step(claimed.id, MADE, "made", room=1000)
    await journal.keep(claimed.id, 1, steps={MADE.mark: step}, state=journal.pack_state(claimed.id, {"at": 1}))
    await writer.output.add(claimed.id, 1, [writer.output.pack(claimed.id, "chunk")])
    await writer.report((claimed.id, 1, Progress(1, 2, "half")))
    await writer.run(writer.ann.error_call(claimed.id, 1, 1, AttemptError("ValueError", "broke")))
    await writer.ann.ask(claimed.id, 1, [Question(f"input-{n}", f"a{n}.x", {"message": "sure?"}) for n in (1, 2)])
    await writer.store.answer(claimed.id, OWNER, {"input-1": {"name": "Ada"}})
    await writer.finish(ended, DONE)
    await writer.finish(failed, Returned({"text": "no"}, is_error=True))
    sessions, calls = writer.store.sessions, writer.store.open_calls
    await sessions.open(Session("s", OWNER, "2025-11-25", {"clientInfo": {"name": "desk"}}))
    await sessions.expect_reply("s", "1")
    await sessions.put_reply("s", "1", {"result": {}})
    await calls.append_message("call", 1, {"n": 1})
    page = await writer.store.page(OWNER, limit=1)
    return claimed, (ended, failed), page.next or ""


async def read_all(reader: StoreFixture, claimed: Any, ended: Any, failed: Any, cursor: str) -> None:
    """All of it opens."""
    assert reader.ann.arguments(claimed) == {"n": 1}
    journal = await JournalStore(reader.redis, reader.settings, reader.ann.scripts).read(claimed.id, claimed.fence)
    assert (journal.values, journal.state) == ({MADE.mark: "made"}, {"at": 1})
    assert [chunk.content for chunk in await reader.output.read(claimed.id)] == ["chunk"]
    view = await reader.read(claimed.id)
    assert (view.record.progress.message, view.questions) == ("half", {"input-2": {"message": "sure?"}})
    assert [event.facts["message"] for event in await reader.store.history(claimed.id) if event.move == "progress"] == [
        "half"
    ]
    assert (await reader.store.attempt_errors(claimed.id))[1].text == "broke"
    assert await reader.ann.answers(claimed.id, ["input-1"]) == [{"name": "Ada"}]
    assert (await reader.read(ended.id)).outcome == DONE
    session = await reader.store.sessions.find("s", OWNER)
    assert session is not None
    assert session.client == {"clientInfo": {"name": "desk"}}
    assert await reader.store.sessions.take_reply("s", "1") == {"result": {}}
    assert await reader.store.open_calls.read_messages("call", 0) == [(1, {"n": 1})]
    assert len((await reader.store.page(OWNER, limit=2, after=cursor)).views) == 2
    again = await reader.store.rerun(failed.id, OWNER, once="once")
    assert reader.ann.arguments(await reader.take(again.record.id)) == {"n": 1}


@pytest.mark.parametrize(("writes", "reads"), PAIRS, ids=lambda ring: "+".join(key[:1].decode() for key in ring))
async def test_everything_opens_at_each_step_of_a_rotation(
    stores: StoreFixture, writes: tuple[bytes, ...], reads: tuple[bytes, ...]
) -> None:
    """Two replicas of a rolling deploy, in both directions: payloads, sessions, signatures, cursors, reruns."""
    writer, reader = stores.with_settings(seal_keys=writes), stores.with_settings(seal_keys=reads)
    claimed, (ended, failed), cursor = await write_all(writer)

    await read_all(reader, claimed, ended, failed, cursor)


async def test_keys_rotate_by_a_file_without_a_restart(redis_url: str, tmp_path: Path) -> None:
    """Old ones open, the new one seals; a file that cannot be read later changes nothing, and is logged."""
    file = tmp_path / "keys"
    file.write_text("# of January\n" + in_base64(OLD))
    settings = StoreSettings(redis_url=redis_url, seal_keys_file=file, seal_keys_refresh=0.02)
    async with open_store(settings) as store:
        ring = sealer_of(settings).ring
        early = sealer_of(settings).seal("x", task_id="t", field="result")
        assert await store.shared_secrets() == (OLD,)

        file.write_text(in_base64(NEW, OLD))
        await until(lambda: ring.keys == (NEW, OLD))

        late = sealer_of(settings).seal("y", task_id="t", field="result")
        assert store.known_secrets() == (NEW, OLD)
        assert sealer_of(settings).open(early, task_id="t", field="result") == "x"
        assert Sealer((NEW,)).open(late, task_id="t", field="result") == "y"
        with capture_logs() as logs:
            file.write_text("no key at all")
            await until(lambda: any(entry["event"] == "seal.keys_unreadable" for entry in logs))
        assert ring.keys == (NEW, OLD)
    assert "no key at all" not in repr(logs)


async def test_a_key_that_comes_later_is_waited_for_and_a_foreign_one_is_not(redis_url: str, tmp_path: Path) -> None:
    """Files reach replicas at different times; a task must not fail for that, nor wait for ever for an attacker's."""
    file = tmp_path / "keys"
    file.write_text(in_base64(OLD))
    settings = StoreSettings(redis_url=redis_url, seal_keys_file=file, seal_keys_refresh=3600)
    async with open_keys(settings):
        sealer = sealer_of(settings)
        of_new, of_none = [Sealer((key,)).seal("x", task_id="t", field="result") for key in (NEW, b"x" * 32)]
        with pytest.raises(SealKeyAwaited):
            sealer.open(of_new, task_id="t", field="result")
        file.write_text(in_base64(OLD, NEW))
        await until(lambda: sealer.ring.keys == (OLD, NEW))
        assert sealer.open(of_new, task_id="t", field="result") == "x"

        def is_given_up() -> bool:
            with pytest.raises(DecryptionFailed) as refused:
                sealer.open(of_none, task_id="t", field="result")
            return type(refused.value) is SealKeyMissing

        await until(is_given_up)


@pytest.fixture
def key_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A key management service in a process of its own, and the function of the docs that asks it."""
    page = (Path(__file__).parents[2] / "docs/security.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "keys_of_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", DECRYPTER], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        monkeypatch.setenv("KMS_URL", f"http://127.0.0.1:{service.stdout.readline().strip()}")
        monkeypatch.setenv("KMS_TOKEN", "open")
        yield service
        service.kill()


async def test_keys_are_unwrapped_by_a_key_management_service_and_rotate(
    redis_url: str, key_service: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provided = StoreSettings(redis_url=redis_url, seal_key_provider="keys_of_docs:current", seal_keys_refresh=0.05)
    monkeypatch.setenv("KMS_TOKEN", "wrong")
    monkeypatch.setenv("WRAPPED_SEAL_KEYS", wrapped(OLD))
    with pytest.raises(SettingsError, match=r"SEAL_KEY_PROVIDER: keys_of_docs:current failed: HTTPError: .*403"):
        async with open_keys(provided):
            pass
    monkeypatch.setenv("KMS_TOKEN", "open")
    async with open_keys(provided):
        ring = sealer_of(provided).ring
        assert ring.keys == (OLD,)
        monkeypatch.setenv("WRAPPED_SEAL_KEYS", wrapped(NEW, OLD))
        await until(lambda: ring.keys == (NEW, OLD))
        with capture_logs() as logs:
            key_service.kill()
            await until(lambda: any(entry["event"] == "seal.keys_unreadable" for entry in logs))
        assert ring.keys == (NEW, OLD)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def current(): return []", "it returned no key"),
        ("def current(): return b'x' * 32", "it returned bytes"),
        ("def current(): return ['short']", "Incorrect padding|base64|32 bytes"),
        ("async def current(): raise OSError('the vault is shut')", "failed: OSError: the vault is shut"),
        ("def other(): pass", "has no attribute 'current'"),
    ],
)
async def test_a_function_that_gives_no_keys_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    name = f"keys_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=words):
        async with open_keys(StoreSettings(seal_key_provider=f"{name}:current")):
            pass


def test_settings_of_keys_that_cannot_work_say_why(tmp_path: Path) -> None:
    for given, words in (
        ({"seal_keys": (OLD,), "seal_keys_file": tmp_path}, "keys come from one place, and TASKMILL_SEAL_KEYS is set"),
        ({"seal_keys_file": tmp_path, "seal_key_provider": "a:b"}, "TASKMILL_SEAL_KEYS_FILE is set, too"),
        ({"seal_key_provider": "keys.current"}, "TASKMILL_SEAL_KEY_PROVIDER"),
        ({"seal_accept_unsealed": "soon"}, "a day such as 2026-01-31"),
        ({"seal_accept_unsealed": "2026-01-31T18:00"}, "needs its zone"),
    ):
        with pytest.raises(SettingsError, match=words):
            read_settings(StoreSettings, **given)


async def test_a_store_whose_keys_were_not_read_stores_nothing_in_clear(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(in_base64(OLD))
    sealer = sealer_of(StoreSettings(seal_keys_file=file))
    with pytest.raises(DecryptionFailed, match="not been read"):
        sealer.seal("x", task_id="t", field="args")
