"""Equal questions asked at the same time: one call, however many jobs."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import QueueChatCompletionResponse, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.exceptions import (
    BadRequestError,
    BudgetExceeded,
    InternalServerError,
    JobCancelled,
    QueueError,
)
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.keys import FLIGHT_PREFIX, FLIGHTS, FOLLOWERS_PREFIX
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.usefixtures("worker")

#: Longer than any test here takes.
TIMEOUT_S = 600


async def gather(*calls: Awaitable[QueueChatCompletionResponse]) -> list[QueueChatCompletionResponse]:
    return list(await asyncio.gather(*calls))


def texts(responses: list[QueueChatCompletionResponse]) -> set[str | None]:
    return {response.choices[0].message.content for response in responses}


def waiting_followers(valkey: ValkeyServer) -> int:
    with valkey.client() as redis:
        return sum(redis.zcard(key) for key in redis.scan_iter(f"{FOLLOWERS_PREFIX}*"))


def nothing_is_left(valkey: ValkeyServer) -> None:
    with valkey.client() as redis:
        names = [*redis.scan_iter(f"{FLIGHT_PREFIX}*"), *redis.scan_iter(f"{FOLLOWERS_PREFIX}*")]
        wait_until(lambda: not redis.exists(FLIGHTS, *names), 20, "the flights to be forgotten")


async def test_fifty_equal_calls_are_one(llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer) -> None:
    provider.plan("q", Step(text="one for all", delay_s=1.5, prompt_tokens=1000, completion_tokens=10))
    agent = llm(single_flight=True, timeout=TIMEOUT_S)
    responses = await gather(*(agent.async_completion(ask("#q")) for _ in range(50)))
    assert len(provider.requests("q")) == 1
    assert texts(responses) == {"one for all"}
    paid = [one for one in responses if one.cached is None]
    assert len(paid) == 1
    assert paid[0].cost_usd
    others = [one for one in responses if one.cached == "flight"]
    assert len(others) == 49
    assert {one.cost_usd for one in others} == {0.0}
    assert {one.saved_usd for one in others} == {paid[0].cost_usd}
    assert all(one.usage is not None and one.usage.prompt_tokens == 1000 for one in others)
    assert all(one.attempts == [] for one in others)
    assert max(one.queue_wait_s or 0.0 for one in others) < TIMEOUT_S, "not its timeout"
    nothing_is_left(valkey)


async def test_a_call_that_does_not_ask_for_it_is_made(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(delay_s=0.5, times=None))
    agent = llm()
    await gather(*(agent.async_completion(ask("#q")) for _ in range(3)))
    assert len(provider.requests("q")) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 0.1}, {"temperature": 0.2}),
        ({"cache_key_extra": "1"}, {"cache_key_extra": "2"}),
        ({"max_tokens": 10}, {"max_tokens": 11}),
        ({"fallback_models": ["openai/gpt-4o"]}, {}),
    ],
)
async def test_what_is_not_equal_is_asked_by_itself(
    llm: MakeLLM, provider: ProviderStub, one: dict[str, Any], other: dict[str, Any]
) -> None:
    provider.plan("q", Step(delay_s=0.5, times=None))
    agents = [llm(single_flight=True, **properties) for properties in (one, other)]
    await gather(*(agent.async_completion(ask("#q")) for agent in agents))
    assert len(provider.requests("q")) == 2


def in_org(org: str, guild: str = "support", **properties: Any) -> QueueLLM:
    resolver = QueueLLMResolver(model="openai/gpt-4o-mini", single_flight=True, **properties)
    return resolver.resolve(org, guild, "helper")


@pytest.mark.parametrize(
    ("agents", "calls"),
    [
        ([("acme", "a", {}), ("acme", "b", {})], 2),
        ([("acme", "a", {"cache_scope": "org"}), ("acme", "b", {"cache_scope": "org"})], 1),
        ([("acme", "a", {"cache_scope": "org"}), ("umbrella", "a", {"cache_scope": "org"})], 2),
    ],
    ids=["guilds apart", "guilds of an organisation", "organisations apart"],
)
async def test_an_answer_stays_in_its_scope(
    llm: MakeLLM, provider: ProviderStub, agents: list[tuple[str, str, dict[str, Any]]], calls: int
) -> None:
    provider.plan("q", Step(delay_s=1.0, times=None))
    llms = [in_org(org, guild, **properties) for org, guild, properties in agents]
    await gather(*(one.async_completion(ask("#q")) for one in llms))
    assert len(provider.requests("q")) == calls


async def test_a_failure_that_no_retry_mends_is_everybodys(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(status=400, message="no such thing", delay_s=1.5, times=None))
    agent = llm(single_flight=True)
    ended = await asyncio.gather(
        *(agent.async_completion(ask("#q")) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(one, BadRequestError) and "no such thing" in str(one) for one in ended)
    assert len(provider.requests("q")) == 1
    nothing_is_left(valkey)


async def test_a_failure_that_may_pass_goes_to_the_next_leader(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(status=500, delay_s=1.0), Step(text="the second time", delay_s=0.5))
    agent = llm(single_flight=True, max_retries=0)
    ended = await asyncio.gather(
        *(agent.async_completion(ask("#q")) for _ in range(10)), return_exceptions=True
    )
    failed = [one for one in ended if isinstance(one, BaseException)]
    assert [type(one) for one in failed] == [InternalServerError]
    assert len(provider.requests("q")) == 2
    assert texts([one for one in ended if not isinstance(one, BaseException)]) == {"the second time"}


async def test_two_handovers_then_the_failure_is_everybodys(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(status=500, delay_s=1.0, times=None))
    agent = llm(single_flight=True, max_retries=0)
    ended = await asyncio.gather(
        *(agent.async_completion(ask("#q")) for _ in range(12)), return_exceptions=True
    )
    assert {type(one) for one in ended} == {InternalServerError}
    assert len(provider.requests("q")) == 3


def test_what_one_job_may_not_spend_is_no_failure_of_the_others(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(status=500, hold=True), Step(status=500), model="gpt-4o-mini")
    provider.plan("q", Step(text="a dearer model's"), model="gpt-4o")
    asked = {"single_flight": True, "max_retries": 0, "fallback_models": ["openai/gpt-4o"]}
    leader = llm(max_cost_usd=0.015, **asked).submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    follower = llm(**asked).submit(ask("#q"))
    wait_until(lambda: waiting_followers(valkey) == 1, 10, "the second job to follow the first")
    provider.release("q")
    with pytest.raises(BudgetExceeded, match="max_cost_usd"):
        leader.result(timeout_s=20)
    assert follower.result(timeout_s=20).choices[0].message.content == "a dearer model's"


def test_a_leader_that_is_cancelled_hands_over(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(hold=True), Step(text="for the follower"))
    agent = llm(single_flight=True)
    leader = agent.submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    follower = agent.submit(ask("#q"))
    wait_until(lambda: waiting_followers(valkey) == 1, 10, "the second job to follow the first")
    assert follower.status() is JobState.QUEUED
    leader.cancel()
    with pytest.raises(JobCancelled):
        leader.result(timeout_s=20)
    assert follower.result(timeout_s=30).choices[0].message.content == "for the follower"
    assert len(provider.requests("q")) == 2


def test_a_follower_that_is_cancelled_leaves_the_others_alone(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(text="answer", hold=True))
    agent = llm(single_flight=True)
    leader = agent.submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    first, second = agent.submit(ask("#q")), agent.submit(ask("#q"))
    wait_until(lambda: waiting_followers(valkey) == 2, 10, "two followers")
    first.cancel()
    with pytest.raises(JobCancelled):
        first.result(timeout_s=10)
    wait_until(lambda: waiting_followers(valkey) == 1, 10, "one follower less")
    provider.release("q")
    assert leader.result(timeout_s=20).cached is None
    assert second.result(timeout_s=20).cached == "flight"
    assert len(provider.requests("q")) == 1


def test_a_followers_deadline_is_its_own(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="late", hold=True))
    patient, hasty = llm(single_flight=True), llm(single_flight=True, timeout=1.5)
    leader = patient.submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    begun = time.monotonic()
    with pytest.raises(QueueError):
        hasty.completion(ask("#q"))
    assert time.monotonic() - begun < 10, "it waited for its leader instead"
    provider.release("q")
    assert leader.result(timeout_s=20).choices[0].message.content == "late"
    assert len(provider.requests("q")) == 1


def test_a_streams_follower_gets_the_whole_text(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(text="word by word it comes", hold=True, prompt_tokens=7, completion_tokens=5))
    agent = llm(single_flight=True)
    leader = agent.submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    with agent.stream(ask("#q")) as stream:
        wait_until(lambda: waiting_followers(valkey) == 1, 10, "the stream to follow")
        provider.release("q")
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == stream.text == "word by word it comes"
    assert stream.response is not None
    assert stream.response.cached == "flight"
    assert stream.response.usage is not None
    assert (stream.response.usage.prompt_tokens, stream.response.usage.completion_tokens) == (7, 5)
    assert leader.result(timeout_s=20).choices[0].message.content == said
    assert len(provider.requests("q")) == 1


def test_a_streaming_leader_answers_a_follower_that_does_not_stream(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("q", Step(text="streamed once", first_token_delay_s=2.0))
    agent = llm(single_flight=True)
    with agent.stream(ask("#q")) as stream:
        provider.wait_for_requests(1, "q")
        follower = agent.submit(ask("#q"))
        wait_until(lambda: waiting_followers(valkey) == 1, 10, "the second job to follow")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == follower.result(timeout_s=20).choices[0].message.content == "streamed once"
    assert len(provider.requests("q")) == 1
