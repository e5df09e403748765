"""examples/kubernetes, without a cluster: published schemas, no more rights than needed, parts that fit together."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "kubernetes"
SCHEMA = json.loads((ROOT / "tests" / "support" / "kubernetes-1.30.schema.json").read_text(encoding="utf-8"))
"""Kubernetes' own definitions of the kinds below that are its own; fields that are not in them are refused."""
FOREIGN = {"ScaledObject", "PodMonitor"}
"""Kinds of KEDA and of the Prometheus operator."""
OBJECTS: list[dict[str, Any]] = [
    one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"] for one in OBJECTS if one["kind"] in ("Deployment", "StatefulSet")
}


def named(kind: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    return [one for one in OBJECTS if one["kind"] == kind]


def labels_of(pod: dict[str, Any]) -> set[tuple[str, str]]:
    return set(pod["metadata"]["labels"].items())


POLICIES = {one["spec"]["podSelector"]["matchLabels"]["app"]: one["spec"] for one in named("NetworkPolicy")}


def test_every_object_keeps_to_the_published_schema_of_its_kind() -> None:
    kinds = {name.rpartition(".")[2]: name for name in SCHEMA["$defs"]}
    problems = []
    for one in OBJECTS:
        if one["kind"] not in FOREIGN:
            schema = {"$ref": f"#/$defs/{kinds[one['kind']]}", "$defs": SCHEMA["$defs"]}
            assert SCHEMA["$defs"][kinds[one["kind"]]]["properties"]["apiVersion"]["enum"] == [one["apiVersion"]]
            found = jsonschema.Draft202012Validator(schema).iter_errors(one)
            problems += [
                f"{one['kind']} {one['metadata']['name']} {error.json_path}: {error.message}" for error in found
            ]
    assert problems == []


@pytest.mark.parametrize("name", PODS)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    pod = PODS[name]["spec"]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]["type"]) == (
        True,
        "RuntimeDefault",
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert "livenessProbe" in container


def test_no_password_is_written_into_a_manifest_or_on_a_command_line() -> None:
    secret = {"taskmill-server": "redis-url", "taskmill-worker": "redis-url", "taskmill-redis": "redis-password"}
    for name, key in secret.items():
        [container] = PODS[name]["spec"]["containers"]
        assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "taskmill", "key": key}
        assert "--redis-url" not in container["command"]
        assert "--requirepass" not in str(container["command"])


def test_only_servers_and_workers_reach_redis_which_reaches_no_one() -> None:
    policy = POLICIES["taskmill-redis"]
    [rule] = policy["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"taskmill-redis": "client"}}}]
    assert (policy["policyTypes"], "egress" in policy) == (["Ingress", "Egress"], False)
    clients = {name for name, pod in PODS.items() if pod["metadata"]["labels"].get("taskmill-redis") == "client"}
    assert clients == {"taskmill-server", "taskmill-worker"}
    assert set(POLICIES) == set(PODS)


def test_probes_ask_what_the_server_answers_and_the_selectors_fit() -> None:
    [server] = PODS["taskmill-server"]["spec"]["containers"]
    assert server["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert server["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert server["startupProbe"]["httpGet"]["path"] == "/healthz"
    port = server["command"][server["command"].index("--port") + 1]
    asked = [server[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")]
    assert {*asked, server["ports"][0]["containerPort"]} == {int(port)}
    services = {one["metadata"]["name"]: one["spec"]["selector"] for one in named("Service")}
    assert services == {name: {"app": name} for name in ("taskmill-server", "taskmill-redis")}
    assert all(PODS[name]["metadata"]["labels"]["app"] == name for name in PODS)


def test_the_way_in_leads_to_the_servers_under_the_name_that_they_allow() -> None:
    [ingress], [monitor] = named("Ingress"), named("PodMonitor")
    [server] = PODS["taskmill-server"]["spec"]["containers"]
    name = server["command"][server["command"].index("--allowed-hosts") + 1]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [name] == ingress["spec"]["tls"][0]["hosts"]
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    service = next(one for one in named("Service") if one["metadata"]["name"] == path["backend"]["service"]["name"])
    [port] = service["spec"]["ports"]
    assert path["backend"]["service"]["port"] == {"name": port["name"]}
    assert {port["targetPort"], monitor["spec"]["podMetricsEndpoints"][0]["port"]} == {server["ports"][0]["name"]}


def test_drains_of_nodes_leave_servers_and_workers() -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in named("PodDisruptionBudget")}
    assert set(budgets) == {"taskmill-server", "taskmill-worker"}
    for name, budget in budgets.items():
        assert budget["selector"]["matchLabels"].items() <= labels_of(PODS[name])
    [monitor] = named("PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels_of(PODS["taskmill-server"])
    [scraped] = monitor["spec"]["podMetricsEndpoints"]
    alerts = (ROOT / "examples" / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    assert {rule["replacement"] for rule in scraped["relabelings"]} == set(re.findall(r'job="(\w+)"', alerts))


def test_a_worker_that_is_told_to_go_has_longer_than_its_grace() -> None:
    pod = PODS["taskmill-worker"]["spec"]
    [worker] = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > int(worker["command"][worker["command"].index("--grace") + 1])


def test_the_number_of_workers_follows_metrics_that_servers_report_and_the_worker_of_that_queue() -> None:
    [scaled] = named("ScaledObject")
    [worker] = PODS["taskmill-worker"]["spec"]["containers"]
    assert scaled["spec"]["scaleTargetRef"] == {"name": "taskmill-worker"}
    [trigger] = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    documented = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"taskmill_\w+", query) if f"`{name}{{" not in documented} == set()
    assert set(re.findall(r'queue="(\w+)"', query)) == {worker["command"][worker["command"].index("--queue") + 1]}


def test_the_secret_that_the_page_makes_has_every_key_that_is_read() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in FOLDER.glob("*.yaml"))
    read = set(re.findall(r"secretKeyRef: \{name: taskmill, key: ([\w-]+)\}", text))
    read |= set(re.findall(r"credentials: \{name: taskmill, key: ([\w-]+)\}", text))
    assert read == set(re.findall(r"--from-literal=([\w-]+)=", text))
