"""examples/kubernetes, held without a cluster: nothing has more rights than it needs, and the parts fit together."""

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "kubernetes"
OBJECTS: list[dict[str, Any]] = [
    one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"] for one in OBJECTS if one["kind"] in ("Deployment", "StatefulSet")
}


def named(kind: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    return [one for one in OBJECTS if one["kind"] == kind]


POLICIES = {one["spec"]["podSelector"]["matchLabels"]["app"]: one["spec"] for one in named("NetworkPolicy")}


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
    services = {one["metadata"]["name"]: one["spec"]["selector"] for one in named("Service")}
    assert services == {name: {"app": name} for name in ("taskmill-server", "taskmill-redis")}
    assert all(PODS[name]["metadata"]["labels"]["app"] == name for name in PODS)
