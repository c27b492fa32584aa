"""A worker's settings: their defaults, the forms a value may take, and errors that name the variable."""

import os
import re
from datetime import timedelta
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.policy.allowed_endpoint import AllowedEndpoint
from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LLM_QUEUE_"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = WorkerSettings()
    assert settings.concurrency == 1_000
    assert settings.lease == timedelta(seconds=15)
    assert settings.beat == timedelta(seconds=5)
    assert settings.reap_every == timedelta(seconds=2)
    assert settings.stream_idle == timedelta(seconds=120)
    assert settings.stream_max_bytes == 16_000_000
    assert settings.most_losses == 2
    assert settings.litellm_config is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("2.5", 2.5),
        ("500ms", 0.5),
        ("45 s", 45),
        ("5m", 300),
        ("1h", 3_600),
        ("PT20S", 20),
        ("00:01:30", 90),
    ],
)
def test_forms_of_a_duration(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("LLM_QUEUE_STREAM_IDLE", text)
    assert WorkerSettings().stream_idle.total_seconds() == seconds


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RESULT_TTL", "never", "'never' is no length of time: give 500ms, 30s, 5m, 1h or 1d"),
        ("RESULT_TTL", "0.2s", "Input should be greater than or equal to 1 second"),
        ("BEAT", "20s", "20 s is more than a third of the lease of 15 s"),
        ("HARD_STOP", "2s", "2 s is over before the drain of 30 s"),
    ],
)
def test_a_duration_that_cannot_be_used_says_why(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"LLM_QUEUE_{name}", value)
    with pytest.raises(SettingsError, match=re.escape(f"LLM_QUEUE_{name}: {says}")):
        WorkerSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "many"),
        ("RETRY_BASE", "-1"),
        ("RETRY_BASE", "soon"),
        ("LEASE", "0"),
        ("MOST_LOSSES", "-1"),
        ("STREAM_MAX_BYTES", "1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("ALLOWED_ENDPOINTS", "openai"),
        ("ALLOWED_ENDPOINTS", "openai=ftp://host"),
        ("ALLOWED_ENDPOINTS", "=https://host"),
        ("REDIS_URL", "http://host"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LLM_QUEUE_{name}", value)
    with pytest.raises(SettingsError, match=f"LLM_QUEUE_{name}: "):
        WorkerSettings()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lease": "4s", "beat": "3s"}, "beat"),
        ({"retry_base": "10s", "retry_cap": "5s"}, "retry_cap"),
        ({"drain": "60s", "hard_stop": "30s"}, "hard_stop"),
    ],
)
def test_values_that_do_not_go_together(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=f"LLM_QUEUE_{says.upper()}"):
        WorkerSettings(**values)


def test_allowed_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "LLM_QUEUE_ALLOWED_ENDPOINTS", "openai=https://a.example/v1/, hosted_vllm=http://b:8000"
    )
    assert WorkerSettings().allowed_endpoints == (
        AllowedEndpoint("openai", "https://a.example/v1"),
        AllowedEndpoint("hosted_vllm", "http://b:8000"),
    )


@pytest.mark.parametrize(
    "entry",
    [
        "openai=https://user:secret@host/v1",
        "openai=ftp://user:secret@host",
        "https://user:secret@host",
        "openai=https://u:se/cret@host:x",
        "openai=https://[user:secret@host",
    ],
)
def test_an_endpoint_with_a_password_is_refused_and_not_quoted(entry: str) -> None:
    with pytest.raises(SettingsError, match="LLM_QUEUE_ALLOWED_ENDPOINTS") as caught:
        WorkerSettings(allowed_endpoints=entry)
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)
