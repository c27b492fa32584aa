"""Whole answers of OpenAI's own form go past OpenAI's SDK, unless that would lose something."""

import os
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.request import Endpoint
from support.attempt_kit import MODELS, Bench, NotedSink, content
from support.provider import ProviderStub


@pytest.fixture
def bench(provider: ProviderStub, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, value in provider.env().items():
        monkeypatch.setitem(os.environ, name, value)
    return Bench.over(provider)


async def by_the_sdk(bench: Bench, **how: Any) -> bool:
    answer = await bench.run("hello #way", MODELS["openai"], **how)
    (request,) = bench.stub.requests("way")
    assert content(answer) == request.text
    return request.header("x-stainless-lang") is not None


async def test_a_whole_answer_goes_past_the_sdk(bench: Bench) -> None:
    assert not await by_the_sdk(bench)


async def test_a_stream_does_not(bench: Bench) -> None:
    assert await by_the_sdk(bench, sink=NotedSink())


async def test_an_organization_of_the_call_is_sent(bench: Bench) -> None:
    assert await by_the_sdk(bench, endpoint=Endpoint(organization_id="org-1"))
    assert bench.stub.requests("way")[0].header("openai-organization") == "org-1"


async def test_an_organization_of_the_environment_is_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OPENAI_ORG_ID", "org-2")
    assert await by_the_sdk(bench)
