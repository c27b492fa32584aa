"""The manifests, without a cluster: their schemas, and what has to agree between them."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis

from rustic_ai.llm_queue.tasks.duration import parse_duration
from rustic_ai.llm_queue.tasks.job import NORMAL
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE
from rustic_ai.llm_queue.worker.flower_app.settings import FlowerSettings
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.documents.deployment import DOCKER, documents, make_secrets, manifest, manifests
from support.servers.valkey import ValkeyServer

#: Kubernetes' own schemas; KEDA's and Kustomize's kinds are not among them.
VERSIONS = ("1.31", "1.34", "1.37")
#: What KEDA's Redis trigger runs, in our words: the count of a key of any kind.
COUNT = """
local kind = redis.call('type', KEYS[1]).ok
return redis.call(({list = 'llen', zset = 'zcard', none = 'llen'})[kind], KEYS[1])
"""


def _own(api_version: str) -> bool:
    return not api_version.startswith(("keda.sh/", "kustomize.config.k8s.io/"))


def _pods() -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Deployment", "StatefulSet")
    return [(one["metadata"]["name"], one["spec"]["template"]) for one in manifests() if one["kind"] in kinds]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_by_kubernetes_own_schema(version: str) -> None:
    checked = [one for one in manifests() if _own(one["apiVersion"])]
    assert len(checked) >= 12
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)


def test_every_file_is_in_the_kustomization() -> None:
    (kustomization,) = documents("kubernetes/kustomization.yaml")
    files = {path.name for path in (DOCKER / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files


@pytest.mark.parametrize(("name", "template"), _pods())
def test_every_pod_is_confined(name: str, template: dict[str, Any]) -> None:
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert {"readinessProbe", "livenessProbe"} <= set(container)


def test_pods_start_what_the_image_starts() -> None:
    """Its init: a SIGTERM before Python handles signals would be lost."""
    ours = [
        container
        for _, template in _pods()
        for container in template["spec"]["containers"]
        if "rusticai-llm-queue" in container["image"]
    ]
    assert len(ours) == 2
    assert not [container["name"] for container in ours if "command" in container]


def _environment(name: str) -> dict[str, str]:
    (container,) = manifest("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_a_worker_is_given_longer_to_end_than_it_takes() -> None:
    env = _environment("llm-queue-worker")
    spec = manifest("Deployment", "llm-queue-worker")["spec"]["template"]["spec"]
    drain, hard_stop = parse_duration(env["LLM_QUEUE_DRAIN"]), parse_duration(env["LLM_QUEUE_HARD_STOP"])
    assert drain < hard_stop < parse_duration(f"{spec['terminationGracePeriodSeconds']}s")


def test_settings_that_are_given_exist() -> None:
    known = set(WorkerSettings.model_fields) | set(FlowerSettings.model_fields) | {"redis_url_file"}
    for name in ("llm-queue-worker", "llm-queue-flower"):
        assert {variable.removeprefix("LLM_QUEUE_").lower() for variable in _environment(name)} <= known


def test_selectors_find_their_pods() -> None:
    labels = [template["metadata"]["labels"] for _, template in _pods()]
    for one in manifests():
        spec = one.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector if one["kind"] == "Service" else {})
        if wanted:
            assert any(wanted.items() <= found.items() for found in labels), one["metadata"]["name"]


def test_the_disruption_budget_and_keda_are_about_the_workers() -> None:
    (budget,) = [one for one in manifests() if one["kind"] == "PodDisruptionBudget"]
    worker = manifest("Deployment", "llm-queue-worker")
    assert budget["spec"]["selector"] == worker["spec"]["selector"]
    assert "replicas" not in worker["spec"], "KEDA says how many"
    scaled = manifest("ScaledObject", "llm-queue-worker")["spec"]
    assert scaled["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert 0 < scaled["minReplicaCount"] < scaled["maxReplicaCount"]


def test_keda_counts_the_ledgers_own_keys_and_below_a_workers_limit() -> None:
    triggers = manifest("ScaledObject", "llm-queue-worker")["spec"]["triggers"]
    counted = {one["metadata"]["listName"]: int(one["metadata"]["listLength"]) for one in triggers}
    assert set(counted) == {keys.queued_key(DEFAULT_QUEUE, NORMAL), keys.LEASES}
    concurrency = int(_environment("llm-queue-worker")["LLM_QUEUE_CONCURRENCY"])
    assert all(length < concurrency for length in counted.values())
    authentications = {one["authenticationRef"]["name"] for one in triggers}
    assert authentications == {manifest("TriggerAuthentication", "llm-queue-redis")["metadata"]["name"]}
    # KEDA takes every value of a trigger as text.
    assert all(isinstance(value, str) for one in triggers for value in one["metadata"].values())


def test_every_secret_that_is_read_is_made(tmp_path: Path) -> None:
    made = {path.name for path in make_secrets(tmp_path, "--kubernetes").iterdir()}
    for _, template in _pods():
        for volume in template["spec"]["volumes"]:
            assert {item["key"] for item in volume.get("secret", {}).get("items", [])} <= made
    (reference,) = manifest("TriggerAuthentication", "llm-queue-redis")["spec"]["secretTargetRef"]
    assert reference["key"] in made


@pytest.mark.parametrize("before", [(), ("--kubernetes",)], ids=["after compose's", "once more"])
def test_what_is_there_stays_and_what_is_missing_comes(tmp_path: Path, before: tuple[str, ...]) -> None:
    secrets = make_secrets(tmp_path, *before)
    first = {path.name: path.read_text() for path in secrets.iterdir()}
    make_secrets(tmp_path, "--kubernetes")
    then = {path.name: path.read_text() for path in secrets.iterdir()}
    assert "keda_password" in then
    assert then["users.acl"].count("user keda ") == 1
    assert then["users.acl"].startswith(first.pop("users.acl").rstrip())
    assert then | first == then
    assert (secrets / "users.acl").stat().st_mode & 0o777 == 0o444


def test_keda_may_count_and_nothing_else(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path, "--kubernetes")
    password = (secrets / "keda_password").read_text()
    with ValkeyServer(acl=(secrets / "users.acl").read_text().splitlines()) as server:
        with server.client() as admin:
            admin.zadd(keys.LEASES, {"a": 1, "b": 2})
            admin.hset(keys.job_key("a"), "model", "m")
        with redis.Redis.from_url(server.url_for("keda", password)) as keda:
            assert keda.eval(COUNT, 1, keys.LEASES) == 2
            assert keda.eval(COUNT, 1, keys.queued_key(DEFAULT_QUEUE, NORMAL)) == 0
            for refused in (
                ("HGETALL", keys.job_key("a")),
                ("ZADD", keys.LEASES, 1, "c"),
                ("DEL", keys.LEASES),
                ("KEYS", "*"),
                ("PUBLISH", keys.CANCEL_CHANNEL, "a"),
                ("EVAL", "return redis.call('del', KEYS[1])", 1, keys.LEASES),
                ("EVAL", "return redis.call('type', KEYS[1])", 1, keys.job_key("a")),
            ):
                with pytest.raises(redis.ResponseError, match=r"NOPERM|ACL|can't run|permission"):
                    keda.execute_command(*refused)


def test_the_same_valkey_is_configured_in_both_places() -> None:
    def directives(text: str) -> dict[str, str]:
        lines = [line.strip() for line in text.splitlines()]
        return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))

    there = directives(manifest("ConfigMap", "valkey")["data"]["valkey.conf"])
    here = directives((DOCKER / "redis" / "valkey.conf").read_text())
    assert there.pop("aclfile")
    assert here.pop("aclfile")
    assert there == here


def test_workers_reach_providers_and_no_private_address() -> None:
    rules = manifest("NetworkPolicy", "llm-queue-worker")["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    closed = {network for block in blocks for network in block["except"]}
    assert {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} <= closed
    (internet,) = [rule for rule in rules if any("ipBlock" in to for to in rule["to"])]
    assert [port["port"] for port in internet["ports"]] == [443]
