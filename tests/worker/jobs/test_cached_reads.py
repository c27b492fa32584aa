"""Tokens of a prompt that a provider had in its cache: Anthropic's limits do not count them, others' do."""

from pathlib import Path

import pytest

from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitView
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.providers.provider import ProviderStub, Step
from support.workers.job_kit import MODEL
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


@pytest.mark.parametrize(
    ("provider_name", "model", "counts_them"),
    [("anthropic", "claude-sonnet-4-5", False), ("openai", "gpt-4o", True)],
)
async def test_a_limit_is_charged_what_the_provider_counts(
    make_kit: MakeKit,
    provider: ProviderStub,
    tmp_path: Path,
    provider_name: str,
    model: str,
    counts_them: bool,
) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text(
        f'model_list: [{{model_name: "{MODEL}", litellm_params: {{model: {provider_name}/{model}, '
        f'api_base: "{provider.base_url(provider_name)}", api_key: key-a}}}}]'
    )
    kit = make_kit(litellm_config=config, limits=[{"name": "input", "itpm": 60}])
    kit.stub.plan("q", Step(prompt_tokens=900, cached_tokens=890))
    outcome = await kit.run(await kit.submit("why #q", estimated_tokens=1))
    assert isinstance(outcome, Answered)
    assert outcome.account.prompt_tokens == 900
    (row,) = [one for one in await LimitView(kit.redis).rows() if one.name == "input"]
    # A token takes a second.
    assert (row.tokens_s > 100) == counts_them
