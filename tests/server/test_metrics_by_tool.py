"""What `/metrics` says of each tool: counted by the processes, added up in Redis, and bounded in number."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from taskmill.engine.outcome import Refused
from taskmill.server import TaskConfig, TaskServer
from taskmill.server.api.tool_metrics import metrics_by_tool
from taskmill.server.settings import ServerSettings
from taskmill.store.claims.claims import Claimed
from taskmill.store.formats.keys import Keys
from taskmill.store.metrics.counts import Counted, TaskCounts
from taskmill.store.metrics.figures import Figures, figures_of
from taskmill.store.metrics.writer import CountWriter
from taskmill.store.scripts import Scripts
from taskmill.store.tasks.stats import Stats
from taskmill.workers.attempts.counts import AttemptCounts
from taskmill.workers.attempts.endings import Finish, Release
from tests.server.api_client import ApiClient, figures_once, of_tool
from tests.server.session_client import open_session, rest
from tests.support.replica import Rpc, client_of, working
from tests.support.sample_server import make_server


async def test_each_tool_has_figures_of_what_became_of_its_tasks(rpc: Rpc) -> None:
    await rpc.done(await rpc.task("steps", count=1))
    await rpc.done(await rpc.task("plain", text="x"))
    await rpc.done(await rpc.task("plain", text="y"))
    for how in ("tool", "protocol", "crash"):
        await rpc.done(await rpc.task("complain", how=how))
    stopped = await rpc.task("stay")
    await ApiClient(rpc).until(stopped, "running")
    await rpc.post("tasks/cancel", {"taskId": stopped}, name=stopped)

    created, started = (
        'taskmill_tasks_created_total{client="tasks_2026",queue="default",_}',
        'taskmill_attempts_started_total{queue="default",_}',
    )
    waited, ran = (
        'taskmill_task_wait_seconds_count{queue="default",_}',
        'taskmill_task_run_seconds_count{queue="default",_}',
    )
    ended = 'taskmill_tasks_ended_total{{outcome="{}",queue="default",status="{}",_}}'.format
    expected = {
        "plain": {created: 2, started: 2, waited: 2, ran: 2, ended("succeeded", "completed"): 2},
        "complain": {
            created: 3,
            started: 3,
            waited: 3,
            ran: 3,
            'taskmill_attempts_failed_total{queue="default",reason="crashed",_}': 1,
            ended("tool_error", "completed"): 1,
            ended("failed", "failed"): 1,
            ended("crashed", "completed"): 1,
        },
        "stay": {created: 1, started: 1, waited: 1, ended("cancelled", "cancelled"): 1},
    }

    def found(figures: dict[str, float]) -> dict[str, dict[str, float]]:
        return {tool: of_tool(figures, tool) for tool in expected}

    assert found(await figures_once(rpc, lambda seen: found(seen) == expected)) == expected


async def test_retries_questions_and_hand_offs_are_counted(redis: Redis, settings: ServerSettings) -> None:
    settings = settings.model_copy(update={"handoff_after": 0.05})

    def server() -> TaskServer[None]:
        mcp = make_server(settings)
        failing = TaskConfig(retries=2, backoff=0.01)

        @mcp.tool(task=failing)
        async def flaky() -> str:
            raise RuntimeError("no luck")

        return mcp

    async with client_of(server()) as rpc, working(server(), settings):
        await rpc.done(await rpc.task("flaky"))
        asking = await rpc.task("greet_late")
        await ApiClient(rpc).until(asking, "input_required")
        session = await open_session(rpc.http, rpc.url)
        async with session.streaming("tools/call", name="stay", arguments={}) as frames:
            assert "task" in str((await rest(frames))[-1].message["result"])
        expected = {
            ("flaky", 'taskmill_retries_total{queue="default",reason="crashed",_}'): 2,
            ("flaky", 'taskmill_attempts_failed_total{queue="default",reason="crashed",_}'): 3,
            ("flaky", 'taskmill_task_run_seconds_count{queue="default",_}'): 3,
            ("greet_late", 'taskmill_questions_total{queue="default",_}'): 1,
            ("stay", 'taskmill_hand_offs_total{client="other",queue="default",_}'): 1,
            ("stay", 'taskmill_tasks_created_total{client="plain",queue="default",_}'): 1,
        }

        def found(figures: dict[str, float]) -> dict[tuple[str, str], float]:
            return {(tool, name): of_tool(figures, tool).get(name, 0) for tool, name in expected}

        figures = await figures_once(rpc, lambda seen: found(seen) == expected)

    assert found(figures) == expected


async def test_five_thousand_tools_do_not_make_five_thousand_series(redis: Redis, settings: ServerSettings) -> None:
    settings = settings.model_copy(update={"metrics_tools": 3})
    counts, keys = TaskCounts(), Keys(settings.prefix)
    writer = CountWriter(counts, redis, settings, Scripts(keys))
    for number in range(5000):
        counts.add(Counted.STARTED, "my-app/default", f"made at {number}")

    await writer.write()
    counts.add(Counted.STARTED, "my-app/default", "made at 0")
    await writer.write()

    figures = figures_of(await redis.hgetall(keys.figures("my-app")))  # type: ignore[misc]
    started = {tool: times for (_, _, _, tool), times in figures.rows.items()}
    assert started == {"made at 0": 2, "made at 1": 1, "made at 2": 1, "other": 4997}
    assert figures.tools == {"made at 0", "made at 1", "made at 2"}


async def test_counts_whose_reply_was_lost_are_added_once(
    redis: Redis, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, keys, scripts = TaskCounts(), Keys(settings.prefix), Scripts(Keys(settings.prefix))
    writer = CountWriter(counts, redis, settings, scripts)
    run = scripts.run

    async def run_and_lose_the_reply(*args: object) -> None:
        await run(*args)  # type: ignore[arg-type]
        monkeypatch.undo()
        raise ConnectionError

    monkeypatch.setattr(scripts, "run", run_and_lose_the_reply)
    counts.add(Counted.STARTED, "default", "walk")
    with pytest.raises(Exception, match="reached"):
        await writer.write()
    counts.add(Counted.STARTED, "default", "walk")
    await writer.write()

    figures = figures_of(await redis.hgetall(keys.figures("")))  # type: ignore[misc]
    assert figures.rows == {(Counted.STARTED, "default", "-", "walk"): 2}


@pytest.mark.parametrize(("seconds", "bucket"), [(0, "0"), (0.01, "0"), (0.011, "1"), (14_400, "11"), (1e9, "12")])
def test_a_time_is_counted_in_the_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: str) -> None:
    counts = TaskCounts()
    counts.observe(Counted.RAN, "default", "walk", seconds)
    assert counts.take() == {
        (Counted.RAN, "default", bucket, "walk"): 1,
        (Counted.RAN_MS, "default", "-", "walk"): round(seconds * 1000),
    }


async def test_tools_whose_endings_find_no_room_are_counted_together(redis: Redis, rpc: Rpc) -> None:
    await redis.hset(Keys().ended, mapping={f"succeeded default tool{number}": 1 for number in range(1000)})  # type: ignore[misc]

    await rpc.done(await rpc.task("plain", text="x"))

    assert await redis.hget(Keys().ended, "succeeded default") == b"1"  # type: ignore[misc]
    assert await redis.hlen(Keys().ended) == 1001  # type: ignore[misc]


def test_an_attempt_that_takes_over_from_a_dead_worker_is_a_rescue_and_has_not_waited() -> None:
    counts = TaskCounts()
    attempts = AttemptCounts(counts, lambda _tool: "default")

    attempts.started(Claimed("t", 2, 2, 1, 0, "walk", "ann", b"{}", is_rescue=True))

    assert counts.take() == {
        (Counted.STARTED, "default", "-", "walk"): 1,
        (Counted.RESCUED, "default", "-", "walk"): 1,
    }


def test_times_are_cumulative_buckets_in_seconds_and_what_another_version_counted_in_buckets_is_left_out() -> None:
    counts = TaskCounts()
    for seconds in (0.02, 0.02, 7.0, 1e6):
        counts.observe(Counted.RAN, "default", "walk", seconds)
    rows = {**counts.take(), (Counted.RAN, "default", "99", "walk"): 5, (Counted.RAN, "default", "x", "walk"): 5}

    shown = shown_of(Figures(rows, frozenset({"walk"})), {})

    label = 'taskmill_task_run_seconds_bucket{{le="{}",queue="default",tool="walk"}}'.format
    found = [shown[label(bound)] for bound in ("0.01", "0.05", "5.0", "15.0", "14400.0", "+Inf")]
    assert found == [0, 2, 2, 3, 3, 4]
    assert shown['taskmill_task_run_seconds_sum{queue="default",tool="walk"}'] == 1_000_007.04


def test_endings_are_shown_of_the_own_app_with_zeros_and_beyond_the_limit_of_tools_together() -> None:
    rows = {(Counted.STARTED, "shop/default", "-", tool): 1 for tool in ("walk", "run")}
    ended = {
        ("succeeded", "shop/default", "walk"): 1,
        ("succeeded", "shop/default", "swim"): 2,
        ("succeeded", "shop/default", "ride"): 4,
        ("succeeded", "shop/default", ""): 8,
        ("succeeded", "zoo/default", "walk"): 16,
    }

    shown = shown_of(Figures(rows, frozenset({"walk", "run"})), ended)

    row = 'taskmill_tasks_ended_total{{outcome="{}",queue="default",status="{}",tool="{}"}}'.format
    done = {tool: shown[row("succeeded", "completed", tool)] for tool in ("walk", "run", "other", "")}
    assert done == {"walk": 1, "run": 0, "other": 6, "": 8}
    assert shown[row("crashed", "completed", "walk")] == 0, "an alert sees the first one"
    for name in ("rescues", "questions"):
        assert shown[f'taskmill_{name}_total{{queue="default",tool="walk"}}'] == 0
    assert not any("swim" in name or "ride" in name for name in shown)


def shown_of(figures: Figures, ended: dict[tuple[str, str, str], int]) -> dict[str, float]:
    """What a scraper gets of an app `shop` that may have figures of two tools."""
    stats = Stats(0, 0, 0, {}, (), ended_by_tool=ended)
    shown = {}
    for family in metrics_by_tool(figures, stats, "shop", 2):
        for one in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(one.labels.items()))
            shown[f"{one.name}{{{labels}}}"] = one.value
    return shown


def test_only_what_a_tool_did_is_a_failure_or_a_retry_of_it() -> None:
    counts = TaskCounts()
    attempts = AttemptCounts(counts, lambda _tool: "default")
    claimed = Claimed("t", 1, 1, 0, 0, "walk", "ann", b"{}", waited_ms=0)

    attempts.started(claimed)
    for reason in ("drain", "asked_again", "timed_out"):
        attempts.ended(Release(claimed, timedelta(0), 0, reason))
    attempts.ended(Finish(claimed, Refused(-32000, "not for you")))

    rows = {(what, label) for what, _, label, _ in counts.take()}
    assert {row for row in rows if row[0] in (Counted.FAILED, Counted.RETRIED)} == {
        (Counted.RETRIED, "asked_again"),
        (Counted.RETRIED, "timeout"),
        (Counted.FAILED, "timeout"),
    }
    assert (Counted.WAITED, "0") in rows, "a task that was claimed at once has waited, too"
