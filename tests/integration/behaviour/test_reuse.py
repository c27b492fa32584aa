"""Answers reused, in memory as on real parts."""

import pytest

from rustic_ai.llm_queue.resolver import (
    JobState,
    QueueChatCompletionRequest,
    RateLimitError,
)
from support.callers.behaviour import Backend
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import Step


def test_a_kept_answer_is_given_again(backend: Backend) -> None:
    backend.script(Step(text="Paris", prompt_tokens=1000, completion_tokens=500))
    llm = backend.llm(cache_ttl_s=60)
    first, second = llm.completion(ask("Capital of France?")), llm.completion(ask("Capital of France?"))
    assert (first.cached, second.cached) == (None, "hit")
    assert second.choices[0].message.content == "Paris"
    assert (second.cost_usd, second.saved_usd) == (0.0, first.cost_usd)
    assert second.usage == first.usage
    assert second.attempts == []
    assert len(backend.asked()) == 1


def test_another_question_is_asked(backend: Backend) -> None:
    backend.script(Step(text="Paris"), Step(text="Rome"))
    llm = backend.llm(cache_ttl_s=60)
    said = [llm.completion(ask(f"Capital of {land}?")) for land in ("France", "Italy")]
    assert [one.choices[0].message.content for one in said] == ["Paris", "Rome"]
    assert [one.cached for one in said] == [None, None]


def test_no_cache_asks_anew(backend: Backend) -> None:
    backend.script(Step(text="old"), Step(text="new"))
    llm = backend.llm(cache_ttl_s=60)
    llm.completion(ask("News?"))
    anew = llm.completion(QueueChatCompletionRequest(messages=ask("News?").messages, cache="no-cache"))
    assert (anew.cached, anew.choices[0].message.content) == (None, "new")
    assert llm.completion(ask("News?")).choices[0].message.content == "new"


def test_agents_of_a_guild_share_and_an_agents_own_scope_does_not(backend: Backend) -> None:
    backend.script(Step(text="one"), Step(text="two"))
    backend.llm("first", cache_ttl_s=60).completion(ask("Well?"))
    assert backend.llm("second", cache_ttl_s=60).completion(ask("Well?")).cached == "hit"
    own = backend.llm("second", cache_ttl_s=60, cache_scope="agent").completion(ask("Well?"))
    assert own.cached is None


def test_equal_calls_at_once_are_one(backend: Backend) -> None:
    backend.script(Step(text="once", hold=True))
    llm = backend.llm(single_flight=True)
    jobs = [llm.submit(ask("Well?"))]
    wait_until(lambda: len(backend.asked()) == 1, 10, "the first call")
    jobs += [llm.submit(ask("Well?")) for _ in range(3)]
    wait_until(lambda: {job.status() for job in jobs[1:]} == {JobState.QUEUED}, 10, "the others to wait")
    backend.release()
    answers = [job.result(timeout_s=30) for job in jobs]
    assert {one.choices[0].message.content for one in answers} == {"once"}
    assert [one.cached for one in answers] == [None, "flight", "flight", "flight"]
    assert len(backend.asked()) == 1


def test_a_failure_that_may_pass_is_not_kept(backend: Backend) -> None:
    backend.script(Step(status=429, message="slow down"), Step(text="now"))
    llm = backend.llm(cache_ttl_s=60)
    with pytest.raises(RateLimitError):
        llm.completion(ask("Now?"))
    assert llm.completion(ask("Now?")).choices[0].message.content == "now"


def test_an_answer_that_was_cut_short_is_not_kept(backend: Backend) -> None:
    backend.script(Step(text="cut", finish_reason="length"), Step(text="whole"))
    llm = backend.llm(cache_ttl_s=60)
    assert [llm.completion(ask("Well?")).cached for _ in range(3)] == [None, None, "hit"]
