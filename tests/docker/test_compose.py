"""The compose file, without an engine: its schema, what it leaves open, and the secrets it takes."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import redis

from rustic_ai.llm_queue.tasks.duration import parse_duration
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.flower_app.settings import FlowerSettings
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.documents.deployment import DOCKER, compose, documents, make_secrets
from support.servers.valkey import ValkeyServer

SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def test_it_is_a_compose_file_by_the_specifications_schema() -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(compose(), schema)


def test_what_services_refer_to_is_there() -> None:
    whole = compose()
    for name, service in SERVICES.items():
        assert set(service.get("networks", [])) <= set(whole["networks"]), name
        assert set(service.get("secrets", [])) <= set(whole["secrets"]), name
        assert set(service.get("depends_on", [])) <= set(SERVICES), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DOCKER / source).exists(), source
            else:
                assert source in whole["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def test_services_start_what_the_image_starts() -> None:
    """Its init: a SIGTERM before Python handles signals would be lost."""
    ours = [service for service in SERVICES.values() if "build" in service]
    assert len(ours) >= 3
    assert not [service for service in ours if "entrypoint" in service]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_this_machines_own(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_no_password_or_key_is_written_down() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|AUTH(_FILE)?$|_KEY|URL", variable):
                assert str(value).startswith("/run/secrets/") or value == "false", variable


def test_a_worker_is_given_longer_to_end_than_it_takes() -> None:
    worker = SERVICES["worker"]
    drain, hard_stop = (
        parse_duration(worker["environment"][f"LLM_QUEUE_{name}"]) for name in ("DRAIN", "HARD_STOP")
    )
    assert drain < hard_stop < parse_duration(worker["stop_grace_period"])


def test_prometheus_scrapes_the_port_that_workers_have() -> None:
    (scrape,) = [
        one
        for one in documents("prometheus/prometheus.yml")[0]["scrape_configs"]
        if one["job_name"] == "llm-queue"
    ]
    (found,) = scrape["dns_sd_configs"]
    assert found["names"] == SERVICES["worker"]["networks"]["metrics"]["aliases"]
    assert found["names"] == [SERVICES["worker"]["environment"]["LLM_QUEUE_METRICS_HOST"]]
    assert str(found["port"]) == SERVICES["worker"]["environment"]["LLM_QUEUE_METRICS_PORT"]
    shared = set(SERVICES["worker"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert shared, "they meet on a network"
    assert not set(SERVICES["prometheus"]["networks"]) & set(SERVICES["valkey"]["networks"])


def test_prometheus_alone_shares_the_metrics_network_with_workers() -> None:
    members = {name for name, service in SERVICES.items() if "metrics" in service.get("networks", [])}
    assert members == {"worker", "prometheus"}


def test_the_administrators_password_is_given_to_no_service_that_runs() -> None:
    holders = {name for name, service in SERVICES.items() if "admin_redis_url" in service.get("secrets", [])}
    assert holders == {"admin"}
    assert SERVICES["admin"]["profiles"] == ["admin"], "it is run by hand"


def test_settings_that_are_given_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path)
    for name, settings in (("worker", WorkerSettings), ("flower", FlowerSettings)):
        with monkeypatch.context() as patch:
            for variable, value in SERVICES[name]["environment"].items():
                assert variable.removeprefix("LLM_QUEUE_").lower() in settings.model_fields, variable
                value = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))
                patch.setenv(variable, value.replace("/run/secrets", str(secrets)))
            settings()


def test_the_secrets_are_new_each_time_and_kept_when_they_are_there(tmp_path: Path) -> None:
    first = make_secrets(tmp_path / "first")
    second = make_secrets(tmp_path / "second")
    named = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert named <= {path.name for path in first.iterdir()}
    # The operator fills it.
    named.remove("providers.env")
    for name in named:
        text = (first / name).read_text()
        assert text != (second / name).read_text(), name
        make_secrets(tmp_path / "first")
        assert text == (first / name).read_text(), name
    assert first.stat().st_mode & 0o077 == 0, "nobody else looks into the folder"
    assert (first.parent / ".env").read_text() == "LLM_QUEUE_SECRETS=./secrets\n", "once"


def test_valkey_takes_the_configuration_and_every_role_its_password(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path)
    lines = (DOCKER / "redis" / "valkey.conf").read_text().splitlines()
    directives = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert directives.pop("aclfile") == "/run/secrets/users_acl"
    rules = (secrets / "users.acl").read_text().splitlines()
    with ValkeyServer(acl=rules, config=directives) as server:
        with server.client() as admin:
            kept = admin.config_get("*")
        assert kept["appendonly"] == "yes"
        assert kept["maxmemory-policy"] == "noeviction"
        for role in ("admin", "agent", "worker", "flower"):
            url = (secrets / f"{role}_redis_url").read_text().strip()
            url = re.sub(r"@.*", f"@127.0.0.1:{server.port}/0", url)
            QueueSettings(redis_url=url)
            with redis.Redis.from_url(url) as client:
                assert client.ping()
        with redis.Redis.from_url(server.url) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
