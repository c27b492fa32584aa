"""Workers that die while equal calls wait for one of theirs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rustic_ai.llm_queue.resolver import JobHandle, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger.keys import FLIGHT_PREFIX, FLIGHTS, FOLLOWERS_PREFIX, job_key
from rustic_ai.llm_queue.tasks.owner import Owner
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.proxy import TcpProxy
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

pytestmark = pytest.mark.timeout(180)

FOLLOWERS = 20


@pytest.fixture
def worker_env(provider: ProviderStub) -> dict[str, str]:
    quick = {"LLM_QUEUE_LEASE": "3s", "LLM_QUEUE_BEAT": "1s", "LLM_QUEUE_REAP_EVERY": "500ms"}
    return {**provider.env(), **quick, "LLM_QUEUE_CONCURRENCY": "5"}


@pytest.fixture
def agent(own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> QueueLLM:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", own_valkey.url)
    resolver = QueueLLMResolver(model="openai/gpt-4o-mini", single_flight=True, timeout=120)
    return resolver.resolve("acme", "support", "helper")


@pytest.fixture
def proxy(own_valkey: ValkeyServer) -> Iterator[TcpProxy]:
    with TcpProxy(own_valkey.port) as proxy:
        yield proxy


def followers(valkey: ValkeyServer) -> int:
    with valkey.client() as redis:
        return sum(redis.zcard(key) for key in redis.scan_iter(f"{FOLLOWERS_PREFIX}*"))


def all_answered(jobs: list[JobHandle], text: str) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(lambda job: job.result(timeout_s=90), jobs))
    assert {one.choices[0].message.content for one in answers} == {text}


def nothing_left(valkey: ValkeyServer) -> None:
    with valkey.client() as redis:
        wait_until(
            lambda: (
                not [
                    *redis.scan_iter(f"{FLIGHT_PREFIX}*"),
                    *redis.scan_iter(f"{FOLLOWERS_PREFIX}*"),
                    *redis.scan_iter(FLIGHTS),
                ]
            ),
            20,
            "the flights to be forgotten",
        )


def test_the_leaders_worker_dies_in_its_call(
    agent: QueueLLM,
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    worker_env: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    env = {**worker_env, "LLM_QUEUE_REDIS_URL": own_valkey.url}
    provider.plan("q", Step(hold=True), Step(text="the second time"))
    first = start_worker(env)
    jobs = [agent.submit(ask("#q"))]
    provider.wait_for_requests(1, "q")
    jobs += [agent.submit(ask("#q")) for _ in range(FOLLOWERS)]
    wait_until(lambda: followers(own_valkey) == FOLLOWERS, 30, "all to follow")
    first.kill()
    start_worker(env)
    all_answered(jobs, "the second time")
    assert len(provider.requests("q")) == 2
    nothing_left(own_valkey)


@pytest.mark.parametrize("step", [b"_finish", b"_followers_of", b"_finish_follower"])
def test_the_leaders_worker_dies_after_the_answer(
    agent: QueueLLM,
    own_valkey: ValkeyServer,
    proxy: TcpProxy,
    provider: ProviderStub,
    worker_env: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    step: bytes,
) -> None:
    provider.plan("q", Step(text="paid for once", hold=True, times=None))
    first = start_worker({**worker_env, "LLM_QUEUE_REDIS_URL": proxy.redis_url})
    jobs = [agent.submit(ask("#q"))]
    provider.wait_for_requests(1, "q")
    jobs += [agent.submit(ask("#q")) for _ in range(FOLLOWERS)]
    wait_until(lambda: followers(own_valkey) == FOLLOWERS, 30, "all to follow")
    proxy.stall_on = step
    provider.release("q")
    wait_until(lambda: proxy.stalled, 20, "the worker to come to this step")
    first.kill()
    start_worker({**worker_env, "LLM_QUEUE_REDIS_URL": own_valkey.url})
    all_answered(jobs, "paid for once")
    # The answer was kept before the job ended: nobody asks for it again.
    assert len(provider.requests("q")) == 1
    nothing_left(own_valkey)


ELSEWHERE = Owner(org="umbrella", guild="g", agent="a").model_dump_json()
ANOTHER = "0b6a2c1e-8a53-4c4e-9d2f-5d1f0e3a7b42"


@pytest.mark.parametrize(("field", "value"), [("owner", ELSEWHERE), ("id", ANOTHER), ("v", "x")])
def test_a_follower_whose_record_was_altered_holds_nobody_up(
    agent: QueueLLM,
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    worker_env: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    field: str,
    value: str,
) -> None:
    provider.plan("q", Step(text="for the others", hold=True))
    start_worker({**worker_env, "LLM_QUEUE_REDIS_URL": own_valkey.url})
    jobs = [agent.submit(ask("#q"))]
    provider.wait_for_requests(1, "q")
    jobs += [agent.submit(ask("#q")) for _ in range(3)]
    wait_until(lambda: followers(own_valkey) == 3, 30, "all to follow")
    altered = jobs.pop(1)
    with own_valkey.client() as redis:
        redis.hset(job_key(altered.id), field, value)
        provider.release("q")
        all_answered(jobs, "for the others")
        # Refused, or run by itself: without sealing a record says what it likes.
        wait_until(
            lambda: JobState(redis.hget(job_key(altered.id), "state")).final, 30, "the altered one to end"
        )
        # It is looked at once, and not for as long as it is there.
        assert redis.info("commandstats")["cmdstat_fcall"]["calls"] < 1_000
    nothing_left(own_valkey)


def test_a_thousand_equal_calls_over_four_workers_are_one(
    agent: QueueLLM,
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    worker_env: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    provider.plan("q", Step(text="for a thousand", hold=True))
    env = {**worker_env, "LLM_QUEUE_REDIS_URL": own_valkey.url}
    workers = [start_worker(env, wait=False) for _ in range(4)]
    for worker in workers:
        worker.wait_ready()
    jobs = [agent.submit(ask("#q")) for _ in range(1000)]
    wait_until(lambda: followers(own_valkey) == 999, 60, "all to follow")
    provider.release("q")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda job: job.result(timeout_s=60), jobs))
    assert {one.choices[0].message.content for one in answers} == {"for a thousand"}
    assert sum(one.cached is None for one in answers) == 1
    assert len(provider.requests("q")) == 1
