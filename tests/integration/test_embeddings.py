"""Embeddings through the queue: an agent's call, a real worker, and the provider simulator."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.embeddings import Embeddings

from rustic_ai.llm_queue.resolver import (
    BadRequestError,
    InternalServerError,
    InvalidRequest,
    QueueEmbeddings,
    QueueEmbeddingsResolver,
)
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.providers.wire.embeddings import derived_vector
from support.servers.metrics import Scrape
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery, NurseryWorker
from support.workers.worker import WorkerProcess

QUEUE = "embeddings"
MODEL = "openai/text-embedding-3-small"
METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def worker_env(valkey: ValkeyServer, provider_stub_process: ProviderStub) -> dict[str, str | None]:
    return {
        **provider_stub_process.env(),
        "LLM_QUEUE_REDIS_URL": valkey.url,
        "LLM_QUEUE_QUEUE": QUEUE,
        "LLM_QUEUE_RETRY_BASE": "50ms",
        "LLM_QUEUE_LOG_FORMAT": "json",
        "LLM_QUEUE_METRICS_PORT": str(METRICS_PORT),
    }


@pytest.fixture(scope="module")
def worker(
    worker_env: dict[str, str | None], tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[WorkerProcess]:
    log_path: Path = tmp_path_factory.mktemp("worker") / "worker.log"
    with NurseryWorker(nursery, worker_env, log_path=log_path) as process:
        yield process


@pytest.fixture
def found(redis_url: str, worker: WorkerProcess) -> QueueEmbeddings:
    return embeddings(redis_url)


def embeddings(redis_url: str, agent: str = "a", org: str = "org", **properties: Any) -> QueueEmbeddings:
    resolver = QueueEmbeddingsResolver(
        **{"model_name": MODEL, "queue": QUEUE, "redis_url": redis_url, **properties}
    )
    resolved = resolver.resolve(org, "guild", agent)
    assert isinstance(resolved, Embeddings)
    return resolved


def test_each_text_has_its_vector(found: QueueEmbeddings, provider: ProviderStub) -> None:
    assert found.embed(["the cat", "the dog"]) == [derived_vector("the cat"), derived_vector("the dog")]
    (request,) = provider.requests()
    assert request.body["input"] == ["the cat", "the dog"]


async def test_langchains_four_methods(found: QueueEmbeddings) -> None:
    one, two = derived_vector("one"), derived_vector("two")
    assert found.embed_documents(["one", "two"]) == [one, two]
    assert found.embed_query("one") == one
    assert await found.aembed_documents(["one", "two"]) == [one, two]
    assert await found.aembed_query("two") == two
    assert await found.aembed(["two"]) == [two]
    assert found.langchain_embeddings is found


def test_no_text_is_no_job(found: QueueEmbeddings, provider: ProviderStub) -> None:
    assert found.embed([]) == []
    assert provider.requests() == []


def test_equal_texts_are_sent_once(found: QueueEmbeddings, provider: ProviderStub) -> None:
    vectors = found.embed(["a", "b", "a", "a"])
    assert vectors == [derived_vector(text) for text in "abaa"]
    assert vectors[0] is not vectors[2], "who changes one must not change the other"
    assert [one.body["input"] for one in provider.requests()] == [["a", "b"]]


def test_many_texts_are_split_by_the_providers_limits(
    redis_url: str, provider: ProviderStub, worker: WorkerProcess
) -> None:
    texts = [f"text {at}" for at in range(1_000)]
    assert embeddings(redis_url, dimensions=16).embed(texts) == [derived_vector(text, 16) for text in texts]
    requests = provider.requests()
    assert sorted(text for one in requests for text in one.body["input"]) == sorted(texts)
    assert max(len(one.body["input"]) for one in requests) <= 2_048


def test_many_long_vectors_cost_the_process_no_connection(
    found: QueueEmbeddings, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {at}" for at in range(4_000)]
    # 48 MB of results: Redis drops a subscriber for whom 32 MB wait.
    vectors = embeddings(redis_url, dimensions=1_536).embed(texts)
    assert vectors[3_999] == derived_vector("text 3999", 1_536)
    assert "Redis is away" not in caplog.text


@pytest.mark.usefixtures("worker")
def test_agents_that_ask_at_once_share_calls(
    redis_url: str, provider: ProviderStub, worker: WorkerProcess
) -> None:
    agents = [embeddings(redis_url, agent=f"a{at}") for at in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda at: agents[at].embed([f"text {at}"]), range(20)))
    assert answers == [[derived_vector(f"text {at}")] for at in range(20)]
    assert len(provider.requests()) < 20
    scrape = Scrape.of(METRICS_PORT)
    assert scrape.value("llm_queue_embedding_texts_total") >= 20
    assert scrape.value("llm_queue_embedding_coalesced_total") >= 1


def test_what_operators_see(found: QueueEmbeddings, worker: WorkerProcess) -> None:
    found.embed(["canary text one", "canary text two"])

    def line() -> dict[str, Any] | None:
        lines = [json.loads(one) for one in worker.logs().splitlines() if '"embedding"' in one]
        return next((one for one in lines if one["job"]["prompt_tokens"] == 8), None)

    told = wait_until(line, 10, "the job's line")
    assert told is not None
    assert told["job"]["kind"] == "embedding"
    assert told["job"]["model"] == MODEL
    assert told["job"]["cost_usd"] == pytest.approx(8 * 0.02 / 1e6)
    assert "canary" not in worker.logs()


def test_a_failing_provider_is_tried_again(found: QueueEmbeddings, provider: ProviderStub) -> None:
    provider.plan("flaky", Step(status=503), Step(vectors="one_twice"))
    assert found.embed(["#flaky", "b"]) == [derived_vector("#flaky"), derived_vector("b")]
    assert [one.status for one in provider.requests("flaky")] == [503, 200, 200]


def test_a_provider_that_keeps_failing_is_an_error(found: QueueEmbeddings, provider: ProviderStub) -> None:
    provider.plan("down", Step(status=500, times=None))
    with pytest.raises(InternalServerError) as caught:
        found.embed(["#down"])
    assert len(caught.value.attempts) == 3
    assert len(provider.requests("down")) == 3


@pytest.mark.usefixtures("worker")
def test_a_bad_text_fails_its_own_call(redis_url: str, provider: ProviderStub) -> None:
    provider.plan("bad", Step(status=400, message="no such text", times=None))
    agents = [embeddings(redis_url, agent=f"a{at}") for at in range(8)]

    def ask(at: int) -> object:
        try:
            return agents[at].embed(["#bad" if at == 3 else f"text {at}"])
        except BadRequestError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    error = answers.pop(3)
    assert isinstance(error, BadRequestError)
    assert "no such text" in str(error)
    assert answers == [[derived_vector(f"text {at}")] for at in range(8) if at != 3]


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ("a text", "give a list of texts"),
        (["a", 5], r"text\[1\]: got a int"),
        (["a", "b", ""], r"text\[2\]: an empty text"),
        (["a\ud800"], r"text\[0\]: not valid Unicode"),
        (None, "give a list of texts"),
    ],
)
def test_bad_input_is_named(
    found: QueueEmbeddings, provider: ProviderStub, texts: Any, complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        found.embed(texts)
    assert provider.requests() == []


def test_a_worker_that_is_killed_costs_no_vector(
    redis_url: str, provider: ProviderStub, worker_env: dict[str, str | None]
) -> None:
    queue = "killed"
    env = {
        **worker_env,
        "LLM_QUEUE_QUEUE": queue,
        "LLM_QUEUE_LEASE": "2s",
        "LLM_QUEUE_BEAT": "500ms",
        "LLM_QUEUE_REAP_EVERY": "300ms",
        "LLM_QUEUE_METRICS_PORT": None,
    }
    provider.plan("held", Step(hold=True, times=1))
    first, second = WorkerProcess(env), WorkerProcess(env)
    first.start()
    agents = [embeddings(redis_url, agent=f"a{at}", queue=queue) for at in range(4)]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(agents[at].embed, [f"#held {at}"]) for at in range(4)]
        provider.wait_for_requests(1, "held")
        second.start()
        first.kill()
        answers = [one.result(60) for one in asked]
    second.kill()
    assert answers == [[derived_vector(f"#held {at}")] for at in range(4)]
