"""The alert rules and the dashboard that are shipped ask for metrics and labels that a server has."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.api_client import ApiClient, figures_once, of_tool
from tests.support.replica import Json, client_of, working
from tests.support.sample_server import make_server
from tests.support.system_programs import find_program

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "examples" / "monitoring"
_METRIC = re.compile(r"\btaskmill_\w+")
_SELECTOR = re.compile(r"\b(taskmill_\w+)\{([^}]*)\}")
_GROUPS = re.compile(r"\b(?:by|on) ?\(([^)]*)\)")
_ADDED = {"le", "instance", "job"}
"""Labels that Prometheus adds, or that only buckets have."""


def promtool() -> str:
    found = find_program(["promtool"], "prometheus")
    if found is None:
        pytest.skip("NO ALERT RULE WAS TRIED: promtool is not here (Debian: apt-get install prometheus)")
    return found


def dashboard() -> Json:
    board: Json = json.loads((MONITORING / "dashboard.json").read_text())
    return board


def queries() -> list[str]:
    """Every expression of the dashboard and the alert rules, and the metrics of the dashboard's variables."""
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if "definition" in one]
    return panels + variables + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def documented() -> dict[str, set[str]]:
    """The labels of each metric that docs/metrics.md names."""
    rows = [
        line.split("|")[1] for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")
    ]
    named = [re.fullmatch(r"(\w+)(?:\{([\w,]*)\})?", name) for row in rows for name in re.findall("`([^`]+)`", row)]
    return {found[1]: set(filter(None, (found[2] or "").split(","))) for found in named if found}


def name_of_family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)


async def metrics_of_a_server(settings: ServerSettings) -> dict[str, set[str]]:
    """The metrics that a server shows, with their labels where they have samples."""
    settings = settings.model_copy(update={"seal_keys": (b"0" * 32,), "metrics_tools": 100})
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        await rpc.done(await rpc.task("complain", how="crash"))
        await figures_once(rpc, lambda seen: len(of_tool(seen, "complain")) >= 6)
        text = (await ApiClient(rpc).get("/metrics")).text
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            found.setdefault(name.removesuffix("_total") + "_total" if kind == "counter" else name, set())
        elif not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name_of_family(name), set()).update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


async def test_the_page_of_metrics_names_each_that_a_server_has_and_no_other(
    redis: Redis, settings: ServerSettings
) -> None:
    shown, told = await metrics_of_a_server(settings), documented()

    assert set(told) - {"taskmill_shard_up"} == set(shown)  # a server without shards has none
    assert {name: told[name] for name, labels in shown.items() if labels} == {
        name: labels for name, labels in shown.items() if labels
    }


@pytest.mark.parametrize("query", queries())
def test_alerts_and_dashboard_ask_for_metrics_and_labels_that_there_are(query: str) -> None:
    told = documented()
    used = {name_of_family(name) for name in _METRIC.findall(query)}
    labels = _ADDED.union(*(told.get(name, set()) for name in used))

    assert used <= set(told)
    for name, selector in _SELECTOR.findall(query):
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= told[name_of_family(name)], query
    assert {label.strip() for group in _GROUPS.findall(query) for label in group.split(",")} <= labels


def test_every_metric_of_tasks_is_on_the_dashboard() -> None:
    asked = {name_of_family(name) for query in queries() for name in _METRIC.findall(query)}
    assert set(documented()) - asked == {"taskmill_tasks_kept"}


def test_the_alert_rules_fire_when_they_should_and_only_then() -> None:
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts-test.yaml"]):
        done = subprocess.run([promtool(), *words], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    tests: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts-test.yaml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test.get("alert_rule_test", []) if one["exp_alerts"]}
    assert {rule["alert"] for group in rules["groups"] for rule in group["rules"]} == fired


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    texts = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    texts = [text.replace("$__rate_interval", "5m").replace("$queue", ".*").replace("$tool", ".*") for text in texts]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(texts)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    done = subprocess.run(
        [promtool(), "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
