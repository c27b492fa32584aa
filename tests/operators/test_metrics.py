"""What Prometheus sees of a worker, and that no tenant can make it grow without end."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rustic_ai.llm_queue.resolver.exceptions import AuthenticationError
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.worker.telemetry.metrics.bounded_labels import OTHER, BoundedLabels
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.metrics import Scrape
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

MINI, HAIKU = "openai/gpt-4o-mini", "anthropic/claude-3-5-haiku-latest"
NAMES = {
    "llm_queue_jobs_total",
    "llm_queue_job_run_seconds_bucket",
    "llm_queue_job_queue_wait_seconds_bucket",
    "llm_queue_first_token_seconds_bucket",
    "llm_queue_in_flight",
    "llm_queue_concurrency_limit",
    "llm_queue_queue_depth",
    "llm_queue_oldest_wait_seconds",
    "llm_queue_attempts_total",
    "llm_queue_retries_total",
    "llm_queue_fallbacks_total",
    "llm_queue_tokens_total",
    "llm_queue_cost_usd_total",
    "llm_queue_duplicates_avoided_total",
    "llm_queue_embedding_texts_total",
    "llm_queue_embedding_batch_size_bucket",
    "llm_queue_embedding_coalesced_total",
    "llm_queue_leases_lost_total",
    "llm_queue_requeued_total",
    "llm_queue_quarantined",
    "llm_queue_dead_jobs",
    "llm_queue_loop_lag_seconds",
    "llm_queue_redis_up",
    "process_resident_memory_bytes",
}


@pytest.fixture
def scraped(worker: WorkerProcess, metrics_port: int) -> Callable[[Callable[[Scrape], bool], str], Scrape]:
    """A function that scrapes until a scrape shows what it is to show."""

    def scrape(shows: Callable[[Scrape], bool], what: str) -> Scrape:
        wait_until(lambda: shows(Scrape.of(metrics_port)), 15, what)
        return Scrape.of(metrics_port)

    return scrape


def test_jobs_attempts_tokens_and_costs_are_counted(
    scraped: Callable[..., Scrape], llm: MakeLLM, provider: ProviderStub
) -> None:
    before = scraped(lambda seen: True, "a scrape")
    provider.plan(
        "retry", Step(status=500), Step(prompt_tokens=1000, completion_tokens=500, cached_tokens=400)
    )
    provider.plan("fall", Step(status=401, code="invalid_api_key"), provider="openai")
    provider.plan("key", provider.bad_key("openai"))
    llm("acme", "billing", "a").completion(ask("#retry"))
    llm("acme", "billing", "b", fallback_models=[HAIKU]).completion(ask("#fall"))
    with pytest.raises(AuthenticationError):
        llm().completion(ask("#key"))
    with llm().stream(ask("#streamed")) as stream:
        assert "".join(chunk.text or "" for chunk in stream)

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    after = scraped(
        lambda seen: seen.value("llm_queue_jobs_total") >= before.value("llm_queue_jobs_total") + 4,
        "the jobs",
    )
    assert grown("llm_queue_jobs_total", outcome="answered", model=MINI, error_kind="") == 2
    assert grown("llm_queue_jobs_total", outcome="answered", model=HAIKU, error_kind="") == 1
    assert grown("llm_queue_jobs_total", outcome="failed", model=MINI, error_kind="authentication") == 1
    assert grown("llm_queue_attempts_total", model=MINI, status="failed") == 3
    assert grown("llm_queue_attempts_total", status="ok") == 3
    assert (grown("llm_queue_retries_total"), grown("llm_queue_fallbacks_total")) == (1, 1)
    assert grown("llm_queue_tokens_total", model=MINI, org="acme", guild="billing", kind="cached") == 400
    cost = grown("llm_queue_cost_usd_total", model=MINI, org="acme", guild="billing")
    assert cost == pytest.approx((600 * 0.15 + 400 * 0.075 + 500 * 0.6) / 1e6)
    assert grown("llm_queue_job_run_seconds_count") == 4
    assert grown("llm_queue_job_queue_wait_seconds_count") == 4
    assert grown("llm_queue_first_token_seconds_count", model=MINI) == 1, "of the stream alone"
    assert after.names >= NAMES


def test_refusals_and_the_waits_that_they_cause_are_counted(
    scraped: Callable[..., Scrape], llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    refused, waits = "llm_queue_provider_429_total", "llm_queue_limit_wait_seconds_count"
    before = scraped(lambda seen: True, "a scrape")
    provider.plan("busy", Step(status=429, retry_after_s=2), Step())
    first = llm().submit(ask("#busy"))
    with valkey.client() as client:
        wait_until(lambda: client.zcard(keys.CLOSED), 10, "the model to be closed")
    second = llm().submit(ask("#other"))
    assert first.result()
    assert second.result().limited_by == "~key_and_model"
    after = scraped(lambda seen: seen.value(waits, limit="~key_and_model") > 0, "the wait")
    assert after.value(refused, model=MINI) - before.value(refused, model=MINI) == 1


def test_the_worker_and_its_queue_are_shown(
    scraped: Callable[..., Scrape], llm: MakeLLM, provider: ProviderStub, valkey: ValkeyServer
) -> None:
    provider.plan("hold", Step(hold=True))
    handle = llm().submit(ask("#hold"))
    provider.wait_for_requests(1, "hold")
    seen = scraped(lambda seen: seen.value("llm_queue_in_flight") == 1, "the job in flight")
    assert seen.value("llm_queue_concurrency_limit") == 1000
    assert seen.value("llm_queue_loop_lag_seconds") < 5
    provider.release("hold")
    handle.result()
    with valkey.client() as client:
        # A job that waits, without a message of which this worker could hear.
        seconds = client.time()[0]
        client.hset(keys.job_key("old"), mapping={"state": "queued", "created_ms": (seconds - 100) * 1000})
        client.zadd(keys.queued_key("llm", 3), {"old": (seconds + 1000) * 1000})
        client.zadd(keys.DEAD, {"dead": seconds * 1000})
        for key in (keys.job_key("old"), keys.queued_key("llm", 3), keys.DEAD):
            client.expire(key, 60)
    seen = scraped(lambda seen: seen.value("llm_queue_queue_depth", priority="3") == 1, "the waiting job")
    assert seen.value("llm_queue_queue_depth", queue="llm") == 1
    assert 100 <= seen.value("llm_queue_oldest_wait_seconds", queue="llm") < 200
    assert seen.value("llm_queue_dead_jobs") == 1
    assert seen.value("llm_queue_redis_up") == 1


def test_a_tenant_cannot_make_the_metrics_grow(
    scraped: Callable[..., Scrape], llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("*", Step(text="hi"))
    names = [f"openai/made-up-{number}" for number in range(40)]
    for number, name in enumerate(names):
        llm("noisy", f"guild {number}", "a").completion(ask("x"), model=name)
    llm("quiet", "q", "a").completion(ask("x"), model="openai/gpt-4.1")
    seen = scraped(lambda seen: seen.value("llm_queue_jobs_total", model="openai/gpt-4.1") >= 1, "it")
    shown = seen.labels("llm_queue_jobs_total", "model")
    assert len(shown & set(names)) == 20, "its share"
    assert seen.value("llm_queue_jobs_total", model=OTHER) >= 20, "none is left out"


def test_labels_are_bounded_and_clean() -> None:
    labels = BoundedLabels(10)
    assert [labels.value(f"v{n}", f"org{n}") for n in range(10)] == [f"v{n}" for n in range(10)]
    assert labels.value("late", "late") == OTHER
    assert labels.value("v3", "late") == "v3", "what is known stays known"
    assert [labels.admits(("v3", one), "org0") for one in "ab"] == [False, False], "nor together with others"
    assert BoundedLabels(10).value("two\nlines", "a") == OTHER
    assert BoundedLabels(10).value("x" * 121, "a") == OTHER


@pytest.fixture
def taken_port() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield server


def test_of_a_name_with_many_addresses_it_listens_at_this_machines_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    from rustic_ai.llm_queue.worker.telemetry.metrics import metrics_server

    port = free_port()
    # 192.0.2.0/24 is for documentation: it is nobody's.
    addresses = ["192.0.2.7", "127.0.0.2"]
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        names = addresses if host == "workers.test" else [host]
        return [found for name in names for found in real(name, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def scenario() -> None:
        server = metrics_server.MetricsServer(CollectorRegistry(), host="workers.test", port=port)
        running = asyncio.create_task(server.run())
        await asyncio.to_thread(wait_until, lambda: accepts("127.0.0.2"), 10)
        assert not accepts("127.0.0.1")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def accepts(address: str) -> bool:
        try:
            socket.create_connection((address, port), 2).close()
        except OSError:
            return False
        return True

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_had_as_soon_as_it_is_free(
    taken_port: socket.socket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from rustic_ai.llm_queue.worker.telemetry.metrics import metrics_server

    monkeypatch.setattr(metrics_server, "_AGAIN_S", 0.05)
    port = taken_port.getsockname()[1]

    async def scenario() -> None:
        server = metrics_server.MetricsServer(CollectorRegistry(), host="127.0.0.1", port=port)
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0.2)
        assert "LLM_QUEUE_METRICS_PORT" in caplog.text
        taken_port.close()
        await asyncio.to_thread(wait_until, lambda: serves(port), 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def serves(port: int) -> bool:
        try:
            return Scrape.of(port) is not None
        except OSError:
            return False

    asyncio.run(scenario())
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1, "said once"
