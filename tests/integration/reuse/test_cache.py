"""Answers kept for equal calls."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from rustic_ai.llm_queue.resolver import (
    ConfigurationError,
    LimitExceeded,
    QueueChatCompletionRequest,
    QueueLLMResolver,
)
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.ledger.keys import CACHE_GENERATION_PREFIX, CACHE_PREFIX
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_answer import CachedAnswer, bound_to
from rustic_ai.llm_queue.tasks.reuse.cached_vector import CachedVector
from support.callers.llm import MakeLLM, ask
from support.processes.command import LlmQueue
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def llm_queue(llm: MakeLLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> LlmQueue:
    """The command, on the tests' Redis."""
    return LlmQueue(monkeypatch, capsys)


def test_a_kept_answer_is_given_again(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="kept", prompt_tokens=1000, completion_tokens=10))
    agent = llm(cache_ttl_s=60)
    first, second = agent.completion(ask("#q")), agent.completion(ask("#q"))
    assert len(provider.requests("q")) == 1
    assert (first.cached, second.cached) == (None, "hit")
    assert second.choices[0].message.content == "kept"
    assert second.usage == first.usage
    assert (second.cost_usd, second.saved_usd) == (0.0, first.cost_usd)
    assert second.cache_age_s is not None
    assert 0 <= second.cache_age_s < 60
    assert second.job_id != first.job_id


def test_a_stream_of_a_kept_answer_is_whole(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="kept for a stream", prompt_tokens=9, completion_tokens=4))
    agent = llm(cache_ttl_s=60)
    agent.completion(ask("#q"))
    with agent.stream(ask("#q")) as stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == "kept for a stream"
    assert stream.response is not None
    assert stream.response.usage is not None
    assert (stream.response.cached, stream.response.usage.completion_tokens) == ("hit", 4)
    assert len(provider.requests("q")) == 1


def test_it_ends_with_its_time(llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer) -> None:
    provider.plan("q", Step(times=None))
    agent = llm(cache_ttl_s=500)
    agent.completion(ask("#q"))
    with valkey.client() as redis:
        (name,) = redis.scan_iter(f"{CACHE_PREFIX}*")
        assert 490_000 < redis.pttl(name) <= 500_000
        redis.delete(name)
    assert agent.completion(ask("#q")).cached is None


@pytest.mark.parametrize(
    ("word", "reads", "writes"),
    [("default", True, True), ("no-cache", False, True), ("no-store", True, False), ("off", False, False)],
)
def test_the_requests_word_on_the_cache(
    llm: MakeLLM, provider: ProviderStub, word: str, reads: bool, writes: bool
) -> None:
    provider.plan("old", Step(text="old"), Step(text="new"))
    agent = llm(cache_ttl_s=60)
    agent.completion(ask("#old"))
    said = QueueChatCompletionRequest(messages=ask("#old").messages, cache=word)
    assert (agent.completion(said).cached == "hit") == reads
    provider.plan("q", Step(text="one"), Step(text="two"))
    agent.completion(QueueChatCompletionRequest(messages=ask("#q").messages, cache=word))
    assert (agent.completion(ask("#q")).cached == "hit") == writes


@pytest.mark.parametrize(
    "step", [Step(finish_reason="length"), Step(finish_reason="content_filter")], ids=["length", "filtered"]
)
def test_what_is_not_whole_is_not_kept(llm: MakeLLM, provider: ProviderStub, step: Step) -> None:
    provider.plan("q", step.model_copy(update={"times": None}))
    agent = llm(cache_ttl_s=60)
    assert [agent.completion(ask("#q")).cached for _ in range(2)] == [None, None]


def test_a_fallbacks_answer_is_not_kept(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(status=400, times=None), model="gpt-4o-mini")
    agent = llm(cache_ttl_s=60, fallback_models=["openai/gpt-4o"])
    assert [agent.completion(ask("#q")).cached for _ in range(2)] == [None, None]


def test_a_tampered_entry_is_a_miss(llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer) -> None:
    provider.plan("q", Step(text="true", times=None))
    agent = llm(cache_ttl_s=60)
    agent.completion(ask("#q"))
    with valkey.client() as redis:
        (name,) = redis.scan_iter(f"{CACHE_PREFIX}*")
        generation, _, sealed = redis.get(name).partition("|")
        assert sealed
        redis.set(name, f"{generation}|plain:{{}}", px=60_000)
    again = agent.completion(ask("#q"))
    assert (again.cached, again.choices[0].message.content) == (None, "true")


@pytest.mark.parametrize("kept", [CachedAnswer, CachedVector])
@pytest.mark.parametrize("made_ms", [-1, 10**400], ids=["negative", "too large"])
def test_an_entry_of_an_impossible_time_does_not_open(
    kept: type[CachedAnswer | CachedVector], made_ms: int
) -> None:
    # Nothing is sealed here: whoever may write to Redis may put an entry of any form there.
    entry = {"made_ms": made_ms, "model": "m", "response": {}, "usage": {}, "vector": "AACAPw=="}
    fields = {name: value for name, value in entry.items() if name in kept.model_fields}
    sealer, owner = Sealer(KeyRing({})), Owner(org="o", guild="g", agent="a")
    text = sealer.seal(json.dumps(fields), **bound_to("name", "guild", owner))
    with pytest.raises(ContractViolation, match="does not validate"):
        kept.open(text, sealer, name="name", scope="guild", owner=owner)


@pytest.mark.parametrize("whose", [[], ["--org", "acme"], ["--org", "acme", "--guild", "support"]])
def test_cleared_answers_are_asked_for_anew(
    llm: MakeLLM, provider: ProviderStub, llm_queue: LlmQueue, whose: list[str]
) -> None:
    provider.plan("q", Step(times=None))
    agent = llm(cache_ttl_s=60)
    agent.completion(ask("#q"))
    llm_queue("cache", "clear", "--org", "umbrella")
    assert agent.completion(ask("#q")).cached == "hit"
    shown = llm_queue("cache", "stats").out
    assert "kept: 1 answer, in 1 scope" in shown
    assert "saved today (UTC): 1 call, " in shown
    llm_queue("cache", "clear", *whose)
    assert agent.completion(ask("#q")).cached is None


def test_guilds_that_share_go_on_sharing_when_one_of_them_was_cleared(
    llm: MakeLLM, provider: ProviderStub, llm_queue: LlmQueue
) -> None:
    provider.plan("q", Step(times=None))
    resolver = QueueLLMResolver(model="openai/gpt-4o-mini", cache_ttl_s=60, cache_scope="org")
    one, other = (resolver.resolve("acme", guild, "helper") for guild in ("support", "sales"))
    assert [agent.completion(ask("#q")).cached for agent in (one, other)] == [None, "hit"]
    llm_queue("cache", "clear", "--org", "acme", "--guild", "support")
    assert [agent.completion(ask("#q")).cached for agent in (other, one, other)] == [None, "hit", "hit"]


@pytest.mark.parametrize("whose", [[], ["--org", "acme"], ["--org", "acme", "--guild", "support"]])
def test_what_was_cleared_stays_so_when_redis_forgets_the_clearing(
    llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer, llm_queue: LlmQueue, whose: list[str]
) -> None:
    provider.plan("q", Step(times=None))
    agent = llm(cache_ttl_s=60)
    agent.completion(ask("#q"))
    llm_queue("cache", "clear", *whose)
    with valkey.client() as redis:
        # A Redis that may evict may do so to any key.
        redis.delete(*redis.scan_iter(f"{CACHE_GENERATION_PREFIX}*"))
    assert agent.completion(ask("#q")).cached is None
    assert agent.completion(ask("#q")).cached == "hit"


def test_the_books_keep_paid_and_cached_apart(
    llm: MakeLLM, provider: ProviderStub, llm_queue: LlmQueue
) -> None:
    provider.plan("q", Step(prompt_tokens=1000, completion_tokens=10))
    agent = llm(cache_ttl_s=60)
    paid, *_ = [agent.completion(ask("#q")) for _ in range(4)]
    shown = llm_queue("costs", "--json").out
    assert '"jobs": 4' in shown
    assert '"cached": 3' in shown
    assert '"prompt_tokens": 1000' in shown
    assert f'"saved_usd": "{3 * (paid.cost_usd or 0):.6f}' in shown


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"cache_ttl_s": -1}, "cache_ttl_s: got -1"),
        ({"cache_ttl_s": 31 * 86400}, "from 0 to 2592000"),
        ({"cache": "maybe"}, "'maybe'"),
        ({"cache_scope": "global"}, "no answer is ever shared between organisations"),
        ({"cache_key_extra": "x" * 513}, "at most 512"),
    ],
)
def test_bad_properties_name_themselves(properties: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        QueueLLMResolver(model="openai/gpt-4o-mini", **properties)


def test_a_bad_field_of_a_request_names_itself() -> None:
    with pytest.raises(ValidationError, match="cache_scope"):
        QueueChatCompletionRequest(messages=ask("x").messages, cache_scope="global")


def test_the_policy_bounds_it(llm: MakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_CACHE", '{"max_ttl": "60s", "scopes": ["agent"]}')
    with pytest.raises(LimitExceeded, match=r"cache_ttl_s: 61 s is above the longest allowed, 60 s"):
        llm(cache_ttl_s=61, cache_scope="agent").completion(ask("x"))
    with pytest.raises(LimitExceeded, match="cache_scope: 'org' is not one of agent"):
        llm(cache_ttl_s=60, cache_scope="org").completion(ask("x"))


def test_answers_may_lie_on_a_redis_of_their_own(
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    start_worker: Callable[..., WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ValkeyServer() as store:
        start_worker(
            {**provider.env(), "LLM_QUEUE_REDIS_URL": own_valkey.url, "LLM_QUEUE_CACHE_URL": store.url}
        )
        monkeypatch.setenv("LLM_QUEUE_REDIS_URL", own_valkey.url)
        agent = QueueLLMResolver(model="openai/gpt-4o-mini", cache_ttl_s=60).resolve("acme", "g", "a")
        assert [agent.completion(ask("#q")).cached for _ in range(2)] == [None, "hit"]
        with own_valkey.client() as queue, store.client() as cache:
            assert list(queue.scan_iter("llmq:cache:*")) == []
            assert len(list(cache.scan_iter(f"{CACHE_PREFIX}*"))) == 1
    # The store is gone: every look-up is a miss, and no call fails for it.
    assert agent.completion(ask("#q")).cached is None
    assert len(provider.requests("q")) == 2
