"""Headers that a job may not name, packages that are not there, and servers whose word does not count."""

import importlib.util
import os
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.worker.attempts.log import AttemptLog
from support.providers.provider import Step
from support.providers.raw_answers import whole
from support.workers.attempt_kit import MODELS, Bench


@pytest.mark.parametrize("name", ["Expect", "expect"])
async def test_an_expectation_is_refused(bench: Bench, name: str) -> None:
    envelope = await bench.failure(
        "hello",
        endpoint=Endpoint.model_validate({"api_key": "sk-1", "extra_headers": {name: "100"}}),
    )
    assert envelope.kind is ErrorKind.BAD_REQUEST
    assert name in envelope.message
    assert bench.stub.requests() == []


@pytest.mark.parametrize("name", ["Authorization", "authorization", "api-key", "X-Api-Key", "x-goog-api-key"])
@pytest.mark.parametrize("whose", MODELS)
async def test_no_second_credential_goes_beside_the_workers_key(bench: Bench, name: str, whose: str) -> None:
    endpoint = Endpoint(extra_headers={name: "Bearer of-the-tenant"})
    envelope = await bench.failure("hello", MODELS[whose], endpoint=endpoint)
    assert envelope.kind is ErrorKind.CREDENTIAL_REQUIRED
    assert "api_key" in envelope.message
    assert bench.stub.requests() == []


@pytest.mark.parametrize(
    ("model", "module", "extra"),
    [
        ("vertex_ai/gemini-2.5-flash", "google.auth", "vertex"),
        ("bedrock/anthropic.claude-3", "boto3", "bedrock"),
        ("azure/gpt-4o", "azure.identity", "azure"),
    ],
)
async def test_a_package_that_is_not_there_is_named_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, model: str, module: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == module else find(name))
    for name in ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TENANT_ID", "tenant")
    log = AttemptLog(epoch=1, begun=1)
    envelope = await Bench.over(bench.stub).failure("hello", model, log=log)
    assert f"rusticai-llm-queue[{extra}]" in envelope.message
    assert len(log.records) == 1
    assert bench.stub.requests() == []


async def test_what_a_jobs_own_server_reports_has_no_price(bench: Bench) -> None:
    usage = {"prompt_tokens": 10_000, "completion_tokens": 10_000, "total_tokens": 20_000}
    bench.stub.plan("own", Step(raw=whole(usage=usage), times=None))
    own: dict[str, Any] = {"base_url": bench.stub.base_url("openai"), "api_key": "sk-of-the-job"}
    log = AttemptLog(epoch=1, begun=1)
    answer = await bench.run("hello #own", endpoint=Endpoint.model_validate(own), log=log)
    assert answer.usage.prompt_tokens == 10_000
    assert answer.usage.cost_usd is None
    assert log.target is not None
    assert log.target.foreign
    # The operator's own address, and one that the operator allowed, are ours.
    allowed = Bench.over(bench.stub, allowed_endpoints=f"openai={os.environ['OPENAI_API_BASE']}")
    for on, endpoint in ((bench, None), (allowed, Endpoint.model_validate(own))):
        log = AttemptLog(epoch=1, begun=1)
        answer = await on.run("hello #own", endpoint=endpoint, log=log)
        assert answer.usage.cost_usd
        assert log.target is not None
        assert not log.target.foreign
