"""Redis refuses one step of a job with one error or another: it is waited for, and the call made once."""

import asyncio
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.tasks.frames import START
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.refusing_proxy import RefusingProxy
from support.servers.valkey import ValkeyServer
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm")

#: What servers say.
ERRORS = [
    "BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
    "LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
]
STEPS = ["submit", "claim", "admit", "begin_attempt", "emit", "finish"]
#: The first call of a job is on record with its claim.
BEFORE_A_RETRY = ("admit", "begin_attempt")
#: More than a client that would try a second time at once needs.
TIMES = 2


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[RefusingProxy]:
    with RefusingProxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def refused_kit(make_kit: MakeKit, proxy: RefusingProxy) -> JobKit:
    """A worker's parts that reach Redis through the proxy."""
    return make_kit(proxy)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.partition(" ")[0])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_is_refused_for_a_while(
    refused_kit: JobKit, proxy: RefusingProxy, provider: ProviderStub, step: str, error: str
) -> None:
    retried = step in BEFORE_A_RETRY
    provider.plan("q", *([Step(status=500)] if retried else []), Step(words=12))
    proxy.refuse(step, error, TIMES)
    job = await refused_kit.submit("why #q", stream=True)
    outcome = await asyncio.wait_for(refused_kit.run(job), 30)
    assert isinstance(outcome, Answered)
    assert proxy.refused == TIMES
    assert await refused_kit.result(job) == outcome
    *failed, sent = provider.requests("q")
    assert len(failed) == retried
    assert outcome.response["choices"][0]["message"]["content"] == sent.text
    frames = await refused_kit.ledger.frames(job.id, after=START, most=100)
    assert len(frames) > 1, "the stream was given up"
    assert frames[-1][1] == "end:answered"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.partition(" ")[0])
async def test_a_renewal_that_is_refused_for_a_while(
    refused_kit: JobKit, proxy: RefusingProxy, provider: ProviderStub, error: str
) -> None:
    provider.plan("q", Step(hold=True))
    job = await refused_kit.submit("why #q")
    execution, task = refused_kit.start(job)
    await async_wait_until(lambda: provider.open_calls, 10)
    proxy.refuse("renew", error, TIMES)
    await refused_kit.leases._renew()
    assert (proxy.refused, execution.stop_reason, refused_kit.leases.lost) == (TIMES, None, 0)
    provider.release()
    assert isinstance(await asyncio.wait_for(task, 30), Answered)
    assert len(provider.requests("q")) == 1


async def test_a_redis_without_memory_costs_the_frames_alone(
    refused_kit: JobKit, proxy: RefusingProxy, provider: ProviderStub
) -> None:
    provider.plan("q", Step(words=12))
    proxy.refuse("emit", "OOM command not allowed when used memory > 'maxmemory'.", 1)
    job = await refused_kit.submit("why #q", stream=True)
    outcome = await asyncio.wait_for(refused_kit.run(job), 30)
    assert isinstance(outcome, Answered)
    assert proxy.refused == 1
    assert len(provider.requests("q")) == 1
