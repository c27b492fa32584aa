"""`llm-queue limits`, `pause` and `resume`, on a real queue."""

import json

import pytest

from support.callers.llm import MakeLLM, ask
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step

MODEL = "~key_and_model"


@pytest.mark.usefixtures("worker")
def test_a_limit_that_a_provider_closed_is_shown_and_opened(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("q", Step(status=429, retry_after_s=300), Step(text="forty-two"))
    handle = llm().submit(ask("#q"))
    wait_until(handle.waits_for, 10, "it to wait for the provider")
    (row,) = [one for one in json.loads(llm_queue("limits", "--json").out) if one["waiting"]]
    assert (row["name"], row["waiting"], row["why"]) == (MODEL, 1, "429 rate_limit_exceeded")
    assert 0 < row["closed_s"] <= 300
    shown = llm_queue("limits").out
    assert MODEL in shown
    top = llm_queue("top", "--once").out
    assert MODEL in top
    assert "429 rate_limit_exceeded" in top
    assert llm_queue("resume", MODEL).exit_code == 0
    assert handle.result(20).choices[0].message.content == "forty-two"


@pytest.mark.usefixtures("worker")
def test_a_limit_can_be_paused_for_a_while_or_until_it_is_resumed(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("first", Step(status=429, retry_after_s=0.1), Step())
    assert llm().completion(ask("#first"))
    ran = llm_queue("pause", MODEL)
    assert (ran.exit_code, "until it is resumed" in ran.out) == (0, True)
    handle = llm().submit(ask("#second"))
    wait = wait_until(handle.waits_for, 10, "it to wait")
    assert wait is not None
    assert wait.limited_by == MODEL
    assert "paused" in llm_queue("limits").out
    assert not provider.requests("second")
    assert llm_queue("resume", MODEL).out.strip() == f"{MODEL} is open"
    assert handle.result(20)
    assert llm_queue("pause", MODEL, "--until", "1s").exit_code == 0
    assert llm().completion(ask("#third")), "the pause is over by itself"


@pytest.mark.usefixtures("worker")
def test_a_name_that_is_no_limits_is_said_to_be_none(llm_queue: LlmQueue) -> None:
    for command in ("pause", "resume"):
        ran = llm_queue(command, "nonsense")
        assert ran.exit_code == 1
        assert "'nonsense' is no limit" in ran.err
    assert llm_queue("pause", "x", "--until", "soon").exit_code == 2
