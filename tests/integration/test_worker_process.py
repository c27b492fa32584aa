"""What an operator's worker process promises: capacity, config file, bad records, warm shutdown."""

import asyncio
import json
import os
import resource
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver import JobHandle, QueueChatCompletionResponse, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.exceptions import QueueError
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

StartWorker = Callable[..., WorkerProcess]
MB = 1_000_000
#: Main and event loop, and what they lend work to: asyncio's executor (6 on 2 cores) and libuv's (4).
MOST_THREADS = 4 + (os.cpu_count() or 1) + 4 + 4


@pytest.fixture
def valkey(own_valkey: ValkeyServer) -> ValkeyServer:
    """These workers must be alone on their queue."""
    return own_valkey


@pytest.fixture
def env(valkey: ValkeyServer, provider: ProviderStub) -> dict[str, str]:
    return {"LLM_QUEUE_REDIS_URL": valkey.url, "LLM_QUEUE_RETRY_BASE": "50ms", **provider.env()}


@pytest.mark.timeout(400)
def test_four_thousand_calls_are_in_flight_in_one_process(
    start_fresh_worker: StartWorker, env: dict[str, str], provider: ProviderStub, llm: MakeLLM
) -> None:
    provider.plan("warm", Step(text="ready"))
    provider.plan("many", Step(text="done", hold=True, times=None))
    worker = start_fresh_worker({**env, "LLM_QUEUE_CONCURRENCY": "4000"})
    asker = llm(timeout=600)
    asker.completion(ask("#warm"))
    before = worker.rss_bytes

    async def submit(count: int) -> list[JobHandle]:
        return await asyncio.gather(*(asker.async_submit(ask(f"number {n} #many")) for n in range(count)))

    handles = asyncio.run(submit(4000))
    try:
        wait_until(lambda: provider.open_calls == 4000, 200, "4,000 calls at the provider")
    except AssertionError as failure:
        failure.add_note(f"{provider.stats()}\n{worker.log_tail()}")
        raise
    assert worker.threads <= MOST_THREADS
    assert worker.rss_bytes - before < 400 * MB
    provider.release("many")

    async def all_results() -> list[QueueChatCompletionResponse]:
        return await asyncio.gather(*(handle.async_result() for handle in handles))

    answers = asyncio.run(all_results())
    assert {answer.choices[0].message.content for answer in answers} == {"done"}
    assert provider.stats()["served"] == 4001


def test_more_calls_are_in_flight_than_files_may_be_open_by_default(
    start_fresh_worker: StartWorker, env: dict[str, str], provider: ProviderStub, llm: MakeLLM
) -> None:
    provider.plan("q", Step(text="done", hold=True, times=None))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        start_fresh_worker({**env, "LLM_QUEUE_CONCURRENCY": "400"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    handles = [llm().submit(ask("#q")) for _ in range(300)]
    wait_until(lambda: provider.open_calls == 300, 60, "300 calls at the provider")
    provider.release("q")
    assert {handle.result().choices[0].message.content for handle in handles} == {"done"}


def test_a_litellm_config_file_names_models(
    start_fresh_worker: StartWorker,
    env: dict[str, str],
    provider: ProviderStub,
    llm: MakeLLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text(f"""
model_list:
  - model_name: house-model
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {provider.base_url("openai")}
      api_key: os.environ/HOUSE_KEY
""")
    start_fresh_worker({**env, "LLM_QUEUE_LITELLM_CONFIG": str(config), "HOUSE_KEY": "sk-house-key"})
    provider.plan("q", Step(text="at home"))
    assert llm(model="house-model").completion(ask("#q")).choices[0].message.content == "at home"
    (sent,) = provider.requests("q")
    assert (sent.model, sent.header("authorization")) == ("gpt-4o-mini", "Bearer sk-house-key")


@pytest.mark.parametrize("text", [None, "model_list: [", "model_list: 7"], ids=["missing", "broken", "wrong"])
def test_a_litellm_config_file_that_cannot_be_used_stops_the_start(
    env: dict[str, str], start_fresh_worker: StartWorker, tmp_path: Path, text: str | None
) -> None:
    config = tmp_path / "litellm.yaml"
    if text is not None:
        config.write_text(text)
    worker = start_fresh_worker({**env, "LLM_QUEUE_LITELLM_CONFIG": str(config)}, wait=False)
    wait_until(lambda: worker.exit_code is not None, 60, "the worker to give up")
    assert worker.exit_code != 0
    assert "LLM_QUEUE_LITELLM_CONFIG" in worker.logs()


def _break(valkey: ValkeyServer, job_id: str, fields: dict[str, str]) -> None:
    with valkey.client() as client:
        client.hset(keys.job_key(job_id), mapping=fields)


def test_bad_wake_ups_and_records_do_not_stop_a_worker(
    start_fresh_worker: StartWorker,
    env: dict[str, str],
    provider: ProviderStub,
    llm: MakeLLM,
    valkey: ValkeyServer,
) -> None:
    # Broken before a worker takes them.
    asker = llm(timeout=60)
    broken = {
        "newer version": {"v": "99"},
        "not a number": {"timeout_ms": "x"},
        "not a request": {"request": "plain:{]"},
        "sealed by an unknown key": {"request": "aes256gcm:k9:AAAA"},
        "no owner": {"owner": "null"},
    }
    handles = {}
    for name, fields in broken.items():
        handles[name] = asker.submit(ask(f"{name} #broken"))
        _break(valkey, handles[name].id, fields)
    app = make_celery_app(QueueSettings(redis_url=valkey.url))
    for garbage in ("not a uuid", {"a": 1}, None, "x" * 100_000):
        app.send_task(TASK_NAME, args=(garbage,))
    app.send_task(TASK_NAME, args=(str(uuid.uuid4()),), task_id=str(uuid.uuid4()))
    unknown = str(uuid.uuid4())
    app.send_task(TASK_NAME, args=(unknown,), task_id=unknown)
    app.close()

    worker = start_fresh_worker(env)
    assert asker.completion(ask("still there? #good"))
    assert provider.requests("broken") == [], "nothing unreadable reaches a provider"
    with valkey.client() as client:
        ended = {name: client.hget(keys.job_key(handle.id), "state") for name, handle in handles.items()}
        assert ended == dict.fromkeys(broken, JobState.FAILED.value)
        quarantined = [json.loads(entry) for entry in client.lrange("llmq:quarantine", 0, -1)]
    assert len(quarantined) == 5
    with pytest.raises(QueueError) as caught:
        handles["not a request"].result()
    assert caught.value.kind is ErrorKind.INVALID_RECORD
    assert "Traceback" not in worker.logs()


def test_a_warm_shutdown_finishes_what_runs(
    start_fresh_worker: StartWorker, env: dict[str, str], provider: ProviderStub, llm: MakeLLM
) -> None:
    provider.plan("q", Step(text="finished", hold=True))
    worker = start_fresh_worker(env)
    handle = llm().submit(ask("#q"))
    provider.wait_for_requests(1, "q")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_log("Warm shutdown")
    provider.release("q")
    assert handle.result(timeout_s=20).choices[0].message.content == "finished"
    assert worker.wait(20) == 0
    assert len(provider.requests("q")) == 1


def test_the_friendly_command_runs_a_worker(
    start_fresh_worker: StartWorker, env: dict[str, str], provider: ProviderStub, llm: MakeLLM
) -> None:
    provider.plan("q", Step(text="hello"))
    command = ["-m", "rustic_ai.llm_queue.worker.cli", "worker", "--concurrency", "7"]
    worker = start_fresh_worker(env, command=command)
    assert llm().completion(ask("#q")).choices[0].message.content == "hello"
    assert "concurrency: 7" in worker.logs()


def test_keys_of_the_resolver_beat_those_of_the_worker_and_travel_sealed(
    start_fresh_worker: StartWorker,
    env: dict[str, str],
    provider: ProviderStub,
    redis_url: str,
    valkey: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "k1:" + "A" * 43 + "="
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", key)
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", valkey.url)
    start_fresh_worker({**env, "LLM_QUEUE_SEALING_KEYS": key})
    provider.plan("q", Step(text="sealed"))
    llm: QueueLLM = QueueLLMResolver(model="openai/gpt-4o-mini", api_key="sk-tenant-key").resolve(
        "o", "g", "a"
    )
    assert llm.completion(ask("#q")).choices[0].message.content == "sealed"
    (sent,) = provider.requests("q")
    assert sent.header("authorization") == "Bearer sk-tenant-key"
