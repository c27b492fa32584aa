"""Vectors kept for equal texts: only those that are missing are asked for."""

import re
from pathlib import Path
from typing import Any

import pytest

from faults.shows.partial_hits import run_cases
from rustic_ai.llm_queue.resolver import (
    BadRequestError,
    ConfigurationError,
    LimitExceeded,
    QueueEmbeddings,
    QueueEmbeddingsResolver,
    ResponseProcessingError,
)
from rustic_ai.llm_queue.tasks.ledger.keys import CACHE_PREFIX
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.providers.wire.embeddings import derived_vector
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

pytestmark = pytest.mark.usefixtures("worker")

MODEL = "openai/text-embedding-3-small"


def embeddings(redis_url: str, agent: str = "a", guild: str = "g", **properties: Any) -> QueueEmbeddings:
    properties = {"model": MODEL, "cache_ttl_s": 60, "redis_url": redis_url, **properties}
    return QueueEmbeddingsResolver(**properties).resolve("org", guild, agent)


def sent(provider: ProviderStub) -> list[list[str]]:
    return [one.body["input"] for one in provider.requests()]


def vectors(*texts: str) -> list[list[float]]:
    return [derived_vector(text) for text in texts]


def test_only_what_is_missing_is_asked_for(
    redis_url: str, provider: ProviderStub, worker: WorkerProcess
) -> None:
    before = len(worker.logs())
    ours = embeddings(redis_url)
    assert ours.embed(["one", "two", "three"]) == vectors("one", "two", "three")
    assert ours.embed(["four", "two", "five", "one"]) == vectors("four", "two", "five", "one")
    assert ours.embed(["five", "four", "three"]) == vectors("five", "four", "three")
    assert sent(provider) == [["one", "two", "three"], ["four", "five"]]

    def lines() -> list[str]:
        return [line for line in worker.logs()[before:].splitlines() if "texts cached" in line]

    wait_until(lambda: len(lines()) == 2, 10, "the jobs' lines")
    partial, whole = lines()
    assert "2 texts cached" in partial
    assert not re.search(r"\b0 USD", partial), "what was asked for is paid for"
    assert re.search(r"attempts 0.* 0 USD, cached \(hit\), 3 texts cached", whole)


@pytest.mark.parametrize(
    "other", [{"dimensions": 4}, {"input_type": "query"}, {"guild": "h"}, {"cache": "no-cache"}]
)
def test_what_may_not_be_shared_is_asked_for(
    redis_url: str, provider: ProviderStub, other: dict[str, Any]
) -> None:
    embeddings(redis_url).embed(["one"])
    (vector,) = embeddings(redis_url, **other).embed(["one"])
    assert vector == derived_vector("one", other.get("dimensions", 8))
    assert sent(provider) == [["one"], ["one"]]


def test_the_scope_says_who_shares(redis_url: str, provider: ProviderStub) -> None:
    for scope, guild, agent in (
        ("org", "g", "a"),
        ("org", "h", "b"),
        ("agent", "g", "a"),
        ("agent", "g", "b"),
    ):
        embeddings(redis_url, agent, guild, cache_scope=scope).embed(["one"])
    assert sent(provider) == [["one"], ["one"], ["one"]]


def test_a_vector_is_kept_for_its_time_or_not_at_all(
    redis_url: str, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    with valkey.client() as redis:
        embeddings(redis_url, cache="no-store").embed(["one"])
        assert not list(redis.scan_iter(f"{CACHE_PREFIX}*"))
        embeddings(redis_url, cache_ttl_s=500).embed(["one"])
        (name,) = redis.scan_iter(f"{CACHE_PREFIX}*")
        assert 490_000 < redis.pttl(name) <= 500_000
    assert embeddings(redis_url, cache="no-store").embed(["one"]) == vectors("one")
    assert len(provider.requests()) == 2


def test_an_entry_that_was_moved_is_a_miss(
    redis_url: str, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    ours = embeddings(redis_url)
    ours.embed(["one"])
    with valkey.client() as redis:
        (name,) = redis.scan_iter(f"{CACHE_PREFIX}*")
        redis.set(name, b"0.0.0|not a vector", ex=60)
    assert ours.embed(["one"]) == vectors("one")
    assert len(provider.requests()) == 2


def test_a_cache_that_is_cleared_has_no_vectors(
    redis_url: str,
    provider: ProviderStub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", redis_url)
    ours = embeddings(redis_url)
    ours.embed(["one", "two"])
    LlmQueue(monkeypatch, capsys)("cache", "clear")
    ours.embed(["one", "two"])
    assert sent(provider) == [["one", "two"], ["one", "two"]]


def test_a_bad_text_leaves_the_others_vectors(redis_url: str, provider: ProviderStub) -> None:
    provider.plan("bad", Step(status=400, message="no such text", times=None))
    ours = embeddings(redis_url)
    ours.embed(["old"])
    texts = [
        "old",
        *(f"text {at}" for at in range(12)),
        "a #bad one",
        *(f"text {at}" for at in range(12, 16)),
    ]
    with pytest.raises(BadRequestError, match=r"^text\[13\]: .*no such text"):
        ours.embed(texts)
    paid = [text for one in provider.requests() if one.status == 200 for text in one.body["input"]]
    texts.remove("a #bad one")
    assert ours.embed(texts) == vectors(*texts)
    answered = [text for one in provider.requests() if one.status == 200 for text in one.body["input"]]
    assert sorted(answered) == sorted(texts), "none is paid for twice"
    assert paid[1:] == texts[1:13]


def test_a_model_that_changed_its_length_spoils_no_answer(redis_url: str, provider: ProviderStub) -> None:
    ours = embeddings(redis_url)
    ours.embed(["one"])
    provider.plan("new", Step(vectors="other_length", times=1))
    with pytest.raises(ResponseProcessingError, match="now forgotten"):
        ours.embed(["one", "#new"])
    assert ours.embed(["one", "#new"]) == vectors("one", "#new")


def test_what_is_asked_of_the_cache_is_checked(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="cache_ttl_s"):
        embeddings(redis_url, cache_ttl_s=-1)
    with pytest.raises(ConfigurationError, match="cache_scope"):
        embeddings(redis_url, cache_scope="global")
    policy = tmp_path / "policy.toml"
    policy.write_text('[cache]\nmax_ttl = "1m"\n')
    monkeypatch.setenv("LLM_QUEUE_POLICY", str(policy))
    with pytest.raises(LimitExceeded, match="cache_ttl_s: 61 s is above"):
        embeddings(redis_url, cache_ttl_s=61).embed(["one"])


async def test_no_partial_hit_brings_a_wrong_vector(valkey: ValkeyServer) -> None:
    seen = await run_cases(valkey.url, cases=1_500, seed=18)
    assert min(seen["hit"], seen["partial"], seen["miss"]) > 50
