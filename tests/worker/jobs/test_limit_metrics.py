"""What Prometheus sees of limits, of a worker's parts on a real server."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.worker.telemetry.metrics.limit_metrics import LimitMetrics
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:*", reason="wake-ups that nobody takes")


async def test_the_part_of_each_limit_that_is_taken_is_shown(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    provider.plan("q", Step(hold=True))
    rows = [
        {"name": "calls", "per": ["agent"], "max_parallel_requests": 4},
        # One call takes all that may go at once, and gives it back over a minute.
        {"name": "rate", "rpm": 1, "itpm": 1_000_000},
        {"name": "learned", "learn": {"headers": "auto"}},
    ]
    kit, registry = make_kit(limits=rows), CollectorRegistry()
    metrics = LimitMetrics(kit.redis, kit.provider.limit_rules, registry=registry)

    async def used(limit: str, dimension: str) -> float | None:
        await metrics.look()
        labels = {"limit": limit, "dimension": dimension}
        return registry.get_sample_value("llm_queue_limit_used_ratio", labels)

    assert await used("rate", "rpm") is None, "nobody uses it"
    _, task = kit.start(await kit.submit("#q"))
    await async_wait_until(lambda: provider.open_calls, 10)
    assert await used("calls", "max_parallel_requests") == 0.25
    assert (await used("rate", "rpm") or 0) > 0.5
    assert (await used("rate", "itpm") or 0) < 0.01
    assert await used("learned", "rpm") is None, "the provider alone knows how much there is"
    provider.release()
    assert isinstance(await task, Answered)
    assert await used("calls", "max_parallel_requests") in (None, 0.0)
