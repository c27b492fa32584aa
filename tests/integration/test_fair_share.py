"""Fair share through real workers: a batch of one organisation does not hold up another's call."""

import json
import time
from collections.abc import Callable

import pytest
import redis

from rustic_ai.llm_queue.resolver import QueueChatCompletionRequest, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.tasks.job import PriorityName
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer

PLACES = 8
LLMOf = Callable[[str, str], QueueLLM]


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the worker's environment says of fair share, beside the defaults."""
    return getattr(request, "param", {})


@pytest.fixture
def llm_of(
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    policy: dict[str, str],
    start_worker: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> LLMOf:
    """The LLM of an organisation's guild, over one worker of eight places."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", own_valkey.url)
    env = {"LLM_QUEUE_REDIS_URL": own_valkey.url, "LLM_QUEUE_CONCURRENCY": str(PLACES), **provider.env()}
    start_worker(env | policy)

    def llm(org: str, guild: str) -> QueueLLM:
        resolver = QueueLLMResolver(model="openai/gpt-4o-mini")
        return resolver.resolve(org, guild, "agent")

    return llm


def test_a_single_call_overtakes_a_batch_that_is_split_over_guilds(
    llm_of: LLMOf, provider: ProviderStub, own_valkey: ValkeyServer
) -> None:
    provider.plan("batch", Step(hold=True, times=PLACES), Step(delay_s=0.02, times=None))
    llms = [llm_of("batch", f"guild{number}") for number in range(20)]
    jobs = [llms[number % 20].submit(ask(f"{number} #batch")) for number in range(300)]
    provider.wait_for_requests(PLACES, "batch")
    for number in range(3):
        handle = llm_of("single", "guild").submit(ask(f"#single{number}"))
        since = time.monotonic()
        if number == 0:
            provider.release("batch")
        assert handle.result()
        (call,) = provider.requests(f"single{number}")
        overtaken = [one for one in provider.requests("batch") if since < one.received_at < call.received_at]
        assert len(overtaken) <= 3 * PLACES, "calls of the batch went before it"
    for job in jobs:
        assert job.result()
    assert len(provider.requests("batch")) == 300
    with own_valkey.client() as client:
        wait_until(lambda: not client.exists("llmq:arrivals:llm", "llmq:flows:llm:3"), 10)


def test_a_cancelled_batch_leaves_its_turns(llm_of: LLMOf, provider: ProviderStub) -> None:
    provider.plan("batch", Step(hold=True, times=PLACES))
    llm = llm_of("batch", "guild")
    jobs = [llm.submit(ask(f"{number} #batch")) for number in range(200)]
    provider.wait_for_requests(PLACES, "batch")
    for job in jobs[PLACES:]:
        job.cancel()
    provider.release("batch")
    handle = llm_of("single", "guild").submit(ask("#single"))
    assert handle.result()
    assert len(provider.requests("batch")) <= PLACES


@pytest.mark.parametrize("policy", [{"LLM_QUEUE_FAIR_SHARE": '{"reserve": 0.25}'}], indirect=True)
@pytest.mark.parametrize("batch", [12, 200], ids=["all in the window", "most in the backlog"])
def test_reserved_places_are_for_those_of_whom_nothing_runs(
    llm_of: LLMOf, provider: ProviderStub, own_valkey: ValkeyServer, batch: int
) -> None:
    open_to_all = PLACES - 2
    provider.plan("batch", Step(hold=True, times=open_to_all), Step(times=None))
    provider.plan("held", Step(hold=True))
    jobs = [llm_of("batch", f"guild{number % 5}").submit(ask(f"{number} #batch")) for number in range(batch)]
    provider.wait_for_requests(open_to_all, "batch")
    assert llm_of("single", "guild").completion(ask("#one")).choices
    # One of an organisation at a time, so that a second batch does not take what is kept for a third.
    held = llm_of("second", "guild").submit(ask("#held"))
    provider.wait_for_requests(1, "held")
    more = llm_of("second", "guild").submit(ask("#more"))
    assert llm_of("third", "guild").completion(ask("#three")).choices
    assert not provider.requests("more")
    assert len(provider.requests("batch")) == open_to_all, "the batch took a place that was kept"
    provider.release("held")
    provider.release("batch")
    for job in (*jobs, held, more):
        assert job.result().choices
    assert len(provider.requests()) == batch + 4, "each call was made once"
    with own_valkey.client() as client:
        wait_until(lambda: not client.exists("llm", "llm\x06\x163", "llmq:arrivals:llm"), 10)


@pytest.mark.parametrize(
    "policy",
    [{"LLM_QUEUE_FAIR_SHARE": '{"ageing": "1s"}', "LLM_QUEUE_REAP_EVERY": "200ms"}],
    indirect=True,
)
def test_jobs_of_a_low_priority_get_old_and_go_ahead_of_a_flood(
    llm_of: LLMOf, provider: ProviderStub
) -> None:
    patient = 24
    # The one wake-up in sixteen alone would let so many of the flood go before the last of them.
    flood = 15 * patient
    provider.plan("flood", Step(hold=True, times=PLACES), Step(delay_s=0.2, times=None))
    flooding = llm_of("flood", "guild")
    jobs = [flooding.submit(_at("interactive", f"{number} #flood")) for number in range(flood + 60)]
    provider.wait_for_requests(PLACES, "flood")
    calm = llm_of("patient", "guild")
    waiting = [calm.submit(_at("batch", f"{number} #patient")) for number in range(patient)]
    provider.release("flood")
    for job in waiting:
        assert job.result().choices
    last = max(call.received_at for call in provider.requests("patient"))
    before = [call for call in provider.requests("flood") if call.received_at < last]
    assert len(before) < flood * 3 // 4, "they got no older"
    for job in jobs:
        job.cancel()


def _at(priority: PriorityName, text: str) -> QueueChatCompletionRequest:
    return QueueChatCompletionRequest(messages=ask(text).messages, priority=priority)


@pytest.mark.parametrize(
    "policy",
    [
        {"LLM_QUEUE_FAIR_SHARE": '{"reserve": 0.25}'},
        # By its weight the batch is next for long.
        {"LLM_QUEUE_FAIR_SHARE": '{"reserve": 0.25, "weights": {"batch": 4}, "cost": "jobs"}'},
        {"LLM_QUEUE_FAIR_SHARE": '{"reserve": 0.25, "ready_window": 400}'},
    ],
    indirect=True,
    ids=["as it comes", "ahead of its share", "a wide window"],
)
def test_a_reserved_place_is_never_empty_while_such_a_call_waits(
    llm_of: LLMOf, provider: ProviderStub, own_valkey: ValkeyServer
) -> None:
    open_to_all, batch = PLACES - 2, 300
    provider.plan("batch", Step(hold=True, times=open_to_all), Step(times=None))
    llms = [llm_of("batch", f"guild{number}") for number in range(5)]
    jobs = [llms[number % 5].submit(ask(f"{number} #batch")) for number in range(batch)]
    provider.wait_for_requests(open_to_all, "batch")
    single = llm_of("single", "guild")
    for number in range(40):
        assert single.submit(ask(f"{number} #q")).result(timeout_s=10).choices
    assert len(provider.requests("batch")) == open_to_all
    with own_valkey.client() as client:
        # Those of the questions are gone from it, and none of the batch's is there twice.
        wait_until(lambda: len(set(wakeups(client))) == len(wakeups(client)) <= batch, 10)
    provider.release("batch")
    for job in jobs:
        assert job.result().choices
    assert len(provider.requests()) == batch + 40, "each call was made once"


def wakeups(client: redis.Redis) -> list[str]:
    return [json.loads(message)["headers"]["id"] for message in client.lrange("llm\x06\x163", 0, -1)]
