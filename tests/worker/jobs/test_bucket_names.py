"""Operators see whose a bucket of a limit or budget is, though Redis has a hash of it alone."""

import asyncio
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetView
from rustic_ai.llm_queue.tasks.ledger.limits.limit_view import LimitView
from rustic_ai.llm_queue.tasks.ledger.views.bucket_names import bucket_names
from rustic_ai.llm_queue.tasks.outcome import Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.worker.telemetry.budget_alerts import BudgetAlerts
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")


async def test_a_bucket_is_known_by_what_it_is_split_by(make_kit: MakeKit) -> None:
    budget = {"tokens": 1_000_000, "period": "day"}
    kit = make_kit(
        budgets=[{**budget, "name": "guilds", "per": ["org", "guild"]}, {**budget, "name": "whole"}],
        limits=[
            {"name": "agents", "per": ["agent"], "max_parallel_requests": 5},
            {"name": "models", "per": ["model"], "max_parallel_requests": 5},
        ],
    )
    for guild in ("support", "research"):
        owner = Owner(org="acme", guild=guild, agent="helper")
        job = await kit.submit("hello", owner=owner, params={"max_tokens": 50})
        assert isinstance(await kit.run(job), Answered)
    buckets = [(row.name, row.bucket) for row in await BudgetView(kit.redis).rows()]
    buckets += [(row.name, row.bucket) for row in await LimitView(kit.redis).rows()]
    key = kit.settings.key_ring().limit_key
    names = await bucket_names(kit.redis, buckets, key)
    assert sorted((name, shown) for (name, _), shown in names.items()) == [
        ("agents", "helper"),
        ("guilds", "acme/research"),
        ("guilds", "acme/support"),
        ("whole", "all"),
    ]
    assert await bucket_names(kit.redis, buckets, b"another key") == {}, "a reader of Redis learns nothing"


async def test_an_alert_says_whose_budget_it_is(make_kit: MakeKit, caplog: pytest.LogCaptureFixture) -> None:
    budget = {"name": "guilds", "tokens": 1_000, "period": "day", "per": ["org", "guild"]}
    kit = make_kit(budgets=[{**budget, "on_exceeded": "warn", "alerts": [1]}])
    job = await kit.submit("hello", params={"max_tokens": 50})
    assert isinstance(await kit.run(job), Answered)
    told: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
    alerts = BudgetAlerts(
        kit.redis,
        url=None,
        secret=b"",
        key=kit.settings.key_ring().limit_key,
        registry=None,
        send_event=lambda _, fields: told.put(fields),
    )
    task = asyncio.create_task(alerts.run())
    fields = await asyncio.to_thread(told.get, timeout=10)
    task.cancel()
    assert fields["of"] == "acme/support"
    assert "The budget guilds of acme/support (day-" in caplog.text
