"""Who is measured, and how each one's processes are started. What is measured is in `cases/`."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = [
    "ARDIQ",
    "ARQ",
    "ARQ_TUNED",
    "CELERY",
    "DRAMATIQ",
    "FASTMCP",
    "FASTMCP_MEMORY",
    "FOLLOWERS",
    "QUEUES",
    "ROOT",
    "SAQ",
    "SDK",
    "STREAQ",
    "TASKIQ",
    "TASKMILL",
    "TASKMILL_FASTMCP",
    "Contender",
]

ROOT = Path(__file__).parents[1]
_PROGRAMS = ROOT / "bench" / "programs"
FOLLOWERS = _PROGRAMS / "followers_program.py"
"""Reads event streams; for the contender that has them."""
_PEERS = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Contender:
    """One way to run background tasks. Its program knows `serve PORT`, `work`, `send TOOL COUNT GAP`."""

    name: str
    label: str
    """Column heading."""
    program: Path
    python: Path = Path(sys.executable)
    redis_variable: str = "BENCH_REDIS_URL"
    redis_options: str = ""
    """Appended to the address of Redis."""
    address: str = ""
    """Given instead of that of Redis."""
    slots_variable: str = "BENCH_CONCURRENCY"
    environment: dict[str, str] = field(default_factory=dict)
    server_works: bool = False
    """Its server process runs tasks too, as many at a time as the slots variable says; 0 = none."""
    unfinished: tuple[tuple[str, str], ...] = ()
    """Redis (command, key) pairs whose replies sum up to the number of tasks that have not ended."""

    setup: tuple[str, ...] = ()
    """Command, from the root, that makes its environment; returns at once when that is there."""

    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return self.python.exists()


TASKMILL = Contender(
    "taskmill",
    "Taskmill",
    _PROGRAMS / "taskmill_program.py",
    redis_variable="TASKMILL_REDIS_URL",
    slots_variable="TASKMILL_CONCURRENCY",
    # The checks stay, the numbers are out of the way.
    environment={"TASKMILL_APP": "", "TASKMILL_OPEN_LIMIT": "1000000000", "TASKMILL_OPEN_LIMIT_TOTAL": "1000000000"},
    unfinished=(("ZCARD", "{taskmill}:live"),),
)
TASKMILL_FASTMCP = replace(
    TASKMILL,
    name="taskmill_fastmcp",
    label="Taskmill, of a FastMCP server",
    environment={**TASKMILL.environment, "BENCH_FRAMEWORK": "fastmcp", "FASTMCP_CHECK_FOR_UPDATES": "off"},
)
SDK = Contender("sdk", "bare SDK", _PROGRAMS / "sdk_program.py")
FASTMCP = Contender(
    "fastmcp",
    "FastMCP (docket)",
    _PROGRAMS / "fastmcp_program.py",
    python=_PEERS,
    redis_variable="FASTMCP_DOCKET_URL",
    # With redis-py's default of 100 a worker of 100 slots runs out of connections and pauses for five seconds.
    redis_options="?max_connections=1000",
    slots_variable="FASTMCP_DOCKET_CONCURRENCY",
    environment={"FASTMCP_LOG_LEVEL": "WARNING", "FASTMCP_CHECK_FOR_UPDATES": "off"},
    server_works=True,
    unfinished=(("XLEN", "fastmcp:stream"), ("ZCARD", "fastmcp:queue")),
    setup=("scripts/peers",),
)
FASTMCP_MEMORY = replace(FASTMCP, name="fastmcp_memory", label="FastMCP (memory)", address="memory://", unfinished=())
"""Its default: everything in the server process, and gone with it."""
ARQ = Contender("arq", "arq, defaults", _PROGRAMS / "arq_program.py", unfinished=(("ZCARD", "arq:queue"),))
ARQ_TUNED = Contender(
    "arq_tuned",
    "arq, polling every 5 ms",
    _PROGRAMS / "arq_program.py",
    environment={"BENCH_ARQ_TUNED": "1"},
    unfinished=(("ZCARD", "arq:queue"),),
)


def _queue(name: str, label: str, unfinished: tuple[tuple[str, str], ...], *python: str) -> Contender:
    """A task queue with an environment of its own; `python`: `newest` where it asks for more than .venv's."""
    return Contender(
        name,
        label,
        _PROGRAMS / f"{name}_program.py",
        python=ROOT / f".venv-{name}" / "bin" / "python",
        unfinished=unfinished,
        setup=("scripts/aside", f".venv-{name}", f"constraints/{name}.txt", *python),
    )


SAQ = _queue("saq", "saq", (("ZCARD", "saq:default:incomplete"),))
# What a worker has taken from these lists is gone from them: up to its slots too few are counted as unfinished.
TASKIQ = _queue("taskiq", "taskiq, lists", (("LLEN", "taskiq"),))
STREAQ = _queue("streaq", "streaq", (("XLEN", "streaq:default:queues:normal"),))
DRAMATIQ = _queue("dramatiq", "dramatiq", (("HLEN", "dramatiq:default.msgs"),))
CELERY = _queue("celery", "celery, threads", (("LLEN", "celery"), ("HLEN", "unacked")))
ARDIQ = _queue("ardiq", "ArdiQ (Rust)", (("XLEN", "ardiq:default:queues:default"),), "newest")
QUEUES = (SAQ, TASKIQ, STREAQ, DRAMATIQ, CELERY, ARDIQ)
