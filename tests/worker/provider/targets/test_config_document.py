"""Everything that LiteLLM's config says is used, or refused at the start by its name."""

import os
from pathlib import Path

import pytest

from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.targets.litellm_config import read_litellm_config
from support.providers.provider import ProviderStub
from support.workers.attempt_kit import Bench

MODEL = "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "litellm.yaml"


def _write(path: Path, text: str) -> None:
    path.write_text(text)


async def test_a_named_credential_is_the_calls_address_and_key(
    provider: ProviderStub, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "sk-of-the-worker")
    monkeypatch.setitem(os.environ, "KEY_OF_THE_CREDENTIAL", "sk-of-the-credential")
    _write(
        config,
        f"""
model_list:
  - model_name: named
    litellm_params: {{model: openai/gpt-4o, litellm_credential_name: theirs}}
  - model_name: own
    litellm_params: {{model: openai/gpt-4o, litellm_credential_name: theirs, api_key: sk-of-the-entry}}
credential_list:
  - credential_name: theirs
    credential_values:
      api_base: {provider.base_url("openai")}
      api_key: os.environ/KEY_OF_THE_CREDENTIAL
    credential_info: {{description: for tests}}
""",
    )
    bench = Bench.over(provider, litellm_config=config)
    await bench.run("hello", "named")
    await bench.run("hello", "own")
    keys = [one.header("authorization") for one in provider.requests()]
    assert keys == ["Bearer sk-of-the-credential", "Bearer sk-of-the-entry"]
    assert "sk-of-the-credential" in read_litellm_config(config).secrets


def test_included_files_are_joined_as_litellm_joins_them(config: Path) -> None:
    (config.parent / "sub").mkdir()
    config.write_text(f"include: [sub/more.yaml]\nrouter_settings: {{allowed_fails: 1}}\n{MODEL}")
    (config.parent / "sub" / "more.yaml").write_text(
        "include: [least.yaml, ../litellm.yaml]\nrouter_settings: {allowed_fails: 2}\n"
        + MODEL.replace("a,", "b,")
    )
    (config.parent / "sub" / "least.yaml").write_text(MODEL.replace("a,", "c,"))
    read = read_litellm_config(config)
    assert [entry["model_name"] for entry in read.model_list] == ["a", "b", "c"]
    assert read.router_settings == {"allowed_fails": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MODEL + "general_settings: {master_key: sk-secret}\n", "the section 'general_settings'"),
        (MODEL + "litellm_settings: {drop_params: true}\n", "the section 'litellm_settings'"),
        (MODEL + "guardrails: []\n", "the section 'guardrails'"),
        (MODEL + "1: x\n", "the section '1'"),
        (MODEL + "router_settings: {redis_password: sk-secret}\n", "router_settings.redis_password"),
        (MODEL + "router_settings: {fallbacks: []}\n", "router_settings.fallbacks"),
        (MODEL + "credential_list: {}\ninclude: x\n", "include in"),
        (MODEL + "include: [1]\n", "include in"),
        (MODEL + "include: [missing.yaml]\n", "cannot read .*missing.yaml"),
        (MODEL + "credential_list: sk-secret\n", "credential_list is not a list"),
        (MODEL + "credential_list: [{credential_name: a}]\n", r"credential_list\[0\] has no"),
        ("model_list: [{model_name: a, litellm_params: {model: m, litellm_credential_name: x}}]\n",
         r"model_list\[0\] names a credential"),
        ("model_list: [{model_name: a, litellm_params: {model: m}, rpm: 3}]\n", r"model_list\[0\] has 'rpm'"),
    ],
)  # fmt: skip
def test_what_is_not_used_is_refused_by_its_name(config: Path, text: str, says: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError, match=f"LLM_QUEUE_LITELLM_CONFIG: .*{says}") as refused:
        read_litellm_config(config)
    assert "sk-secret" not in str(refused.value)
