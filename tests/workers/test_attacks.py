"""Isolated tools that attack their worker, other callers and the machine: what they get, through a real worker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.processes import descendants, lives, taskmill
from tests.support.results import text_of_task
from tests.support.system_programs import find_program
from tests.support.waiting import eventually, eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

HERE = Path(__file__).parent
SECRET = "swordfish-of-the-operator"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="it is by prctl, Landlock and /proc, which Linux has")


async def attacked_worker(deployment: Deployment, **settings: object) -> WorkerProcess:
    return await deployment.worker(server="attacking_tools", poll=60, **settings)  # type: ignore[arg-type]


async def result_of(deployment: Deployment, tool: str, **arguments: Any) -> Any:
    view = await deployment.done(await deployment.create(tool, **arguments), within=30)
    return json.loads(text_of_task(view))


async def failure_of(deployment: Deployment, tool: str, **arguments: Any) -> tuple[Fault, str]:
    view = await deployment.done(await deployment.create(tool, **arguments), within=30)
    assert isinstance(view.outcome, Failed), view
    return view.outcome.fault, view.outcome.text


async def said(deployment: Deployment, tool: str, principal: str) -> list[str]:
    """What earlier calls have said in the process that runs this one, of a caller who says its own name."""
    task = replace(deployment.task(tool, word=principal), principal=principal)
    await deployment.store.create(task)
    view = await deployment.done(task.id, within=30)
    assert isinstance(view.outcome, Returned), view
    found: list[str] = view.outcome.value["structuredContent"]["result"]
    return found[:-1]


@contextmanager
def secret_pipe() -> Iterator[int]:
    """A descriptor from which a secret can be read."""
    reading, writing = os.pipe()
    try:
        os.write(writing, SECRET.encode())
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def command_worker(deployment: Deployment, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`taskmill worker` as an operator starts it: secrets in its environment, on its command line and in a pipe."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    url = deployment.settings["redis_url"]
    log = deployment.folder / "command.log"
    with log.open("wb") as output, secret_pipe() as pipe:
        process = subprocess.Popen(
            [taskmill(), "worker", str(HERE / "attacking_tools.py"), "--redis-url", url],
            env={**given, "TASKMILL_APP": "", "TASKMILL_POLL": "60", **environment},
            stdout=output,
            stderr=output,
            pass_fds=(pipe,),
        )
        try:
            eventually(lambda: b"worker.started" in log.read_bytes() or process.poll() is not None)
            yield process
        finally:
            process.kill()
            process.wait()


@linux_only
async def test_a_tool_finds_no_secret_of_its_worker_and_no_way_into_it(deployment: Deployment) -> None:
    environment = {
        "TASKMILL_API_OPERATOR_TOKEN": SECRET,
        "CACHE_URL": f"cache://:{SECRET}@elsewhere",
        "MY_OWN": "mine",
    }
    with command_worker(deployment, **environment) as worker:
        found = await result_of(deployment, "spy", secret=SECRET, victims=[worker.pid])

    assert len(found.pop("sockets")) <= 3  # the channel, and what the event loop wakes itself with
    assert found == {
        "own": [],
        "mine": "mine",
        "pipes": [],
        "places": [],
        "memory": ["PermissionError"],
        "descriptors": ["PermissionError"],
        "traced": [-1],
        "signalled": ["PermissionError"],
        "privileged": 0,
    }


PROGRAM = """
import os, subprocess, sys
from taskmill.workers.isolation.secrets import cover_secrets
cover_secrets({sys.argv[1]})
print(subprocess.run(["printenv", "WORD"], capture_output=True, text=True).stdout, end="", flush=True)
input()
"""


@linux_only
def test_a_secret_is_not_shown_of_a_process_that_covers_it_and_what_it_starts_has_it_still() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, SECRET, f"--redis-url=redis://:{SECRET}@host"],
        env={**os.environ, "WORD": f"a {SECRET}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    inherited = process.stdout.readline()
    shown = [Path(f"/proc/{process.pid}/{file}").read_text() for file in ("cmdline", "environ")]
    process.communicate("\n", timeout=30)

    assert inherited == f"a {SECRET}\n"
    assert [SECRET in text for text in shown] == [False, False]
    assert "--redis-url=redis://:****" in shown[0]


async def test_a_tool_gets_the_variables_that_an_operator_names_and_no_others(deployment: Deployment) -> None:
    environment = {"TASKMILL_TOKEN_OF_MINE": SECRET, "MY_OWN": "mine", "ANOTHER": SECRET}
    await attacked_worker(deployment, env=environment, isolation_env="MY_*,TASKMILL_TOKEN_OF_MINE")

    found = await result_of(deployment, "spy", secret=SECRET, victims=[])

    assert (found["own"], found["mine"]) == (["TASKMILL_TOKEN_OF_MINE"], "mine")


async def test_a_process_serves_one_caller_unless_its_tool_says_otherwise(deployment: Deployment) -> None:
    await attacked_worker(deployment, concurrency=1)

    assert [await said(deployment, "remember", one) for one in ("ann", "bob", "ann")] == [[], [], ["ann"]]
    assert [await said(deployment, "remember_for_all", one) for one in ("ann", "bob")] == [[], ["ann"]]
    assert [await said(deployment, "remember_nothing", one) for one in ("ann", "ann")] == [[], []]


async def test_a_process_is_replaced_after_a_number_of_tasks(deployment: Deployment) -> None:
    await attacked_worker(deployment, concurrency=1, isolation_uses=2)

    assert [await said(deployment, "remember", "ann") for _ in range(3)] == [[], ["ann"], []]


@linux_only
@pytest.mark.parametrize("end", ["return", "cancel", "worker"])
async def test_a_process_that_left_its_parent_and_session_ends_with_its_tool(deployment: Deployment, end: str) -> None:
    worker = await attacked_worker(deployment)
    pids = deployment.folder / "detached"
    then = "return" if end == "return" else "wait"
    task_id = await deployment.create("leave_detached", pids=str(pids), then=then)
    await eventually_async(lambda: pids.exists() and pids.read_text().endswith("\n"), within=30)
    if end == "cancel":
        await deployment.store.cancel(task_id, OPERATOR)
    elif end == "worker":
        worker.send(signal.SIGKILL)
    else:
        await deployment.done(task_id, within=30)

    await eventually_async(lambda: not lives(int(pids.read_text())))


@linux_only
@pytest.mark.parametrize(
    ("tool", "arguments", "fault", "text"),
    [
        ("burn", {}, Fault.DIED, "burn used more processor time than its limit of 0.5 s."),
        ("multiply", {"count": 8}, Fault.DIED, "multiply ran more processes than its limit of 3."),
        ("open_files", {"raised": False}, Fault.DIED, "open_files opened more files than its limit of 64."),
        ("hoard", {"how": "children"}, Fault.MEMORY, "hoard used more memory than its limit of 209,715,200 bytes."),
    ],
    ids=lambda value: str(value) if isinstance(value, str | dict) else "",
)
async def test_a_tool_over_a_limit_is_ended_and_its_caller_learns_which(
    deployment: Deployment, tool: str, arguments: dict[str, Any], fault: Fault, text: str
) -> None:
    await attacked_worker(deployment)

    assert await failure_of(deployment, tool, **arguments) == (fault, text)


@linux_only
async def test_no_tool_raises_its_limits_and_files_grow_to_theirs(deployment: Deployment) -> None:
    await attacked_worker(deployment)
    path = deployment.folder / "file"

    raised = await deployment.done(await deployment.create("open_files", raised=True), within=30)
    hoarded = await deployment.done(await deployment.create("hoard", how="raised"), within=30)
    written = await deployment.done(await deployment.create("write", path=str(path), size=1024), within=30)

    assert text_of_task(raised).startswith("Error executing tool open_files (reference ")
    assert text_of_task(hoarded).startswith("Error executing tool hoard (reference ")
    assert text_of_task(written) == "written"
    assert await failure_of(deployment, "write", path=str(path), size=2 << 20) == (
        Fault.DIED,
        "write wrote a file larger than its limit of 1,048,576 bytes.",
    )


async def test_an_operators_limit_holds_for_a_tool_that_names_none_and_for_one_that_names_more(
    deployment: Deployment,
) -> None:
    await attacked_worker(deployment, isolation_open_file_limit=48, isolation_file_size_limit=100)
    path = str(deployment.folder / "file")

    assert await failure_of(deployment, "open_files", raised=False) == (
        Fault.DIED,
        "open_files opened more files than its limit of 48.",
    )
    assert await failure_of(deployment, "write", path=path, size=200) == (
        Fault.DIED,
        "write wrote a file larger than its limit of 100 bytes.",
    )


async def test_a_tool_that_writes_to_its_worker_itself_fails_its_own_task_alone(deployment: Deployment) -> None:
    await attacked_worker(deployment)

    for body in ('{"performed":7}', '{"outcome":{},"stuck":true}'):
        assert await failure_of(deployment, "garble", body=body) == (
            Fault.DIED,
            "The process of garble was killed: it sent its worker something that is no message.",
        )


@linux_only
async def test_a_tool_cannot_end_its_parent(deployment: Deployment) -> None:
    await attacked_worker(deployment)

    view = await deployment.done(await deployment.create("kill_parent"), within=30)

    assert text_of_task(view).startswith("Error executing tool kill_parent (reference ")


@linux_only
async def test_a_sandbox_in_front_of_a_tool_closes_files_network_and_redis_and_all_ends_with_the_tool(
    deployment: Deployment,
) -> None:
    program = find_program(["bwrap"], "bubblewrap")
    if (
        program is None
        or subprocess.run([program, "--ro-bind", "/", "/", "--unshare-net", "true"], check=False).returncode
    ):
        pytest.skip("NO SANDBOX WAS TRIED: bubblewrap is not here (Debian: apt-get install bubblewrap), or may not run")
    socket_path = urlsplit(deployment.settings["redis_url"]).path
    sandbox = (
        f"bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs {Path(socket_path).parent} --unshare-net --unshare-pid"
    )
    around = {"path": socket_path, "file": str(deployment.folder / "file")}
    bare = await attacked_worker(deployment)
    found = await result_of(deployment, "reach", **around)
    assert (found["redis"], found["file"]) == ("connected", "written")
    await bare.kill()

    worker = await attacked_worker(deployment, isolation_command=sandbox)
    found = await result_of(deployment, "reach", **around)
    started = descendants(worker.pid)
    await worker.kill()

    assert int(found.pop("processes")) < 5
    assert found == {"redis": "FileNotFoundError", "interfaces": "lo", "file": "OSError"}
    assert len(started) >= 3  # what kills the rest, the sandbox, the tool
    await eventually_async(lambda: not any(map(lives, started)))
