"""`rpm` and `tpm` of deployments in LiteLLM's config: all workers keep to them, and jobs wait for them."""

from pathlib import Path
from textwrap import dedent

import pytest

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.targets.deployment_limits import joined
from rustic_ai.llm_queue.worker.provider.targets.litellm_config import read_litellm_config
from support.providers.provider import ProviderStub
from support.workers.job_kit import MODEL
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


def config_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "litellm.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return path


async def test_a_deployments_rate_holds_for_two_workers(
    make_kit: MakeKit, provider: ProviderStub, tmp_path: Path
) -> None:
    config = config_of(
        tmp_path,
        f"""
        model_list:
          - model_name: {MODEL}
            model_info: {{id: "the [first]"}}
            litellm_params:
              {{model: openai/gpt-4o, api_base: "{provider.base_url("openai")}", api_key: key-a, rpm: 1}}
        """,
    )
    first, second = make_kit(litellm_config=config), make_kit(litellm_config=config)
    assert isinstance(await first.run(await first.submit("one")), Answered)
    waiting = await second.submit("two", timeout_ms=600_000)
    assert await second.run(waiting) is None
    record = await second.ledger.record(waiting.id)
    assert record is not None
    assert (record.state, (record.waits_for or "").partition(":")[0]) == (JobState.QUEUED, "the__first_")
    assert len(provider.requests()) == 1
    (request,) = provider.requests()
    assert "rpm" not in request.body


def test_limits_are_named_after_their_deployments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENS_A_MINUTE", "2000")
    config = config_of(
        tmp_path,
        """
        model_list:
          - {model_name: fast, litellm_params: {model: openai/a, tpm: os.environ/TOKENS_A_MINUTE}}
          - {model_name: fast, litellm_params: {model: openai/b}}
          - {model_name: fast, litellm_params: {model: openai/c, rpm: 7, max_parallel_requests: 3}}
          - {model_name: slow, litellm_params: {model: openai/d, rpm: 5}}
        """,
    )
    limits = read_litellm_config(config).limits
    assert [(one.name, one.rpm, one.tpm, one.max_parallel_requests) for one in limits] == [
        ("fast.1", None, 2_000, None), ("fast.3", 7, None, 3), ("slow", 5, None, None),
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="'slow' has the name of another limit"):
        joined(limits, limits[-1:])


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many"])
def test_a_rate_that_is_none_is_named_with_its_entry(tmp_path: Path, value: str) -> None:
    text = f"model_list: [{{model_name: m, litellm_params: {{model: openai/a, rpm: {value}}}}}]"
    with pytest.raises(SettingsError, match=r"CONFIG: model_list\[0\] \(m\): rpm must be a whole number"):
        read_litellm_config(config_of(tmp_path, text))
