"""Redis loses jobs that workers run: their calls are not made a second time."""

import asyncio
from datetime import timedelta

import pytest

from rustic_ai.llm_queue.tasks.frames import START
from rustic_ai.llm_queue.tasks.job import Job, JobState, open_call
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.cancel import cancel_job
from rustic_ai.llm_queue.tasks.ledger.verdicts import SubmitVerdict
from rustic_ai.llm_queue.tasks.outcome import Answered, Outcome
from rustic_ai.llm_queue.worker.jobs.execution import Execution, StopReason
from rustic_ai.llm_queue.worker.jobs.leases import CancelListener
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit

LEASE = timedelta(seconds=15)


class Lost:
    """A job at the provider, whose record Redis has lost."""

    def __init__(
        self, kit: JobKit, job: Job, execution: Execution, task: asyncio.Task[Outcome | None]
    ) -> None:
        self.kit, self.job, self.execution, self.task = kit, job, execution, task

    async def submit_again(self) -> SubmitVerdict:
        """As the client does that waits for it."""
        again = self.job.model_copy(update={"generation": self.job.generation + 1})
        return (await self.kit.ledger.submit(again))[0]

    async def claim(self, worker: str, reserve: timedelta = timedelta(0)) -> tuple[str, int]:
        claim = await self.kit.ledger.claim(
            self.job.id, worker=worker, token=worker, lease=LEASE, most_losses=2, reserve=reserve
        )
        return claim.verdict, claim.epoch

    async def answered(self, provider: ProviderStub) -> None:
        """The provider answers: that is what the caller gets, and no other call was made."""
        provider.release()
        outcome = await asyncio.wait_for(self.task, 20)
        assert isinstance(outcome, Answered)
        assert await self.kit.result(self.job) == outcome
        assert not outcome.account.possible_duplicate_charge
        assert len(provider.requests("q")) == 1

    async def field(self, name: str) -> str | None:
        value = await self.kit.redis.hget(keys.job_key(self.job.id), name)
        return str(value) if value is not None else None


async def lost(kit: JobKit, provider: ProviderStub, step: Step, *, stream: bool = False) -> Lost:
    provider.plan("q", step)
    job = await kit.submit("why #q", stream=stream)
    execution, task = kit.start(job)
    await async_wait_until(lambda: provider.open_calls, 10)
    await kit.redis.flushall()
    return Lost(kit, job, execution, task)


@pytest.fixture
def own_kit(make_kit: MakeKit, own_valkey: ValkeyServer) -> JobKit:
    return make_kit(own_valkey)


HELD = Step(hold=True, text="kept")


async def test_an_answer_reaches_the_channel_that_its_caller_listens_on(
    own_kit: JobKit, provider: ProviderStub
) -> None:
    """Else it is found by a look at the record, seconds later, and Redis may lose it again meanwhile."""
    provider.plan("q", HELD)
    job = await own_kit.submit("why #q", reply_channel="the-callers")
    async with own_kit.redis.pubsub() as listening:
        await listening.subscribe(keys.result_key("the-callers"))
        _, task = own_kit.start(job)
        await async_wait_until(lambda: provider.open_calls, 10)
        await own_kit.redis.flushall()
        provider.release()
        assert isinstance(await asyncio.wait_for(task, 20), Answered)

        async def told() -> bool:
            message = await listening.get_message(ignore_subscribe_messages=True)
            return message is not None and str(message["data"]).startswith(job.id)

        await async_wait_until(told, 10)


async def test_an_answer_finds_its_way_without_a_record(own_kit: JobKit, provider: ProviderStub) -> None:
    job = await lost(own_kit, provider, HELD)
    await job.answered(provider)
    assert await own_kit.state(job.job) is JobState.ANSWERED


@pytest.mark.parametrize("first", ["the worker", "the client"])
async def test_worker_and_client_bring_a_job_back_together(
    own_kit: JobKit, provider: ProviderStub, first: str
) -> None:
    job = await lost(own_kit, provider, HELD)
    if first == "the worker":
        await own_kit.leases._renew()
        assert await job.submit_again() == "exists"
    else:
        assert await job.submit_again() == "created"
        assert await job.claim("another", reserve=own_kit.leases.longest_gap) == ("reserved", 0)
        await own_kit.leases._renew()
    assert await job.field("state") == "running"
    record = await own_kit.ledger.record(job.job.id)
    assert record is not None
    assert open_call(record.job, own_kit.sealer) == job.execution.call, "any worker could run it"
    assert await job.claim("another") == ("leased", 0)
    await job.answered(provider)


async def test_its_worker_dies_in_the_end(own_kit: JobKit, provider: ProviderStub) -> None:
    """The next claim is no number that the lost record may have had."""
    job = await lost(own_kit, provider, HELD)
    await own_kit.leases._renew()
    await job.submit_again()
    await own_kit.redis.zadd(keys.LEASES, {job.job.id: 1})
    assert await own_kit.ledger.reap(
        renewed_ms=await own_kit.ledger.now_ms(), within=own_kit.leases.longest_gap
    ) == [("requeued", job.job.id)]
    assert await job.claim("another") == ("granted", 1001)
    assert int(await job.field("epoch") or 0) - int(await job.field("handbacks") or 0) == 2, "one was lost"
    await own_kit.leases._renew()
    assert job.execution.stop_reason is StopReason.LOST
    provider.release()
    assert await asyncio.wait_for(job.task, 20) is None


async def test_its_worker_dies_before_its_client_is_back(
    make_kit: MakeKit, own_valkey: ValkeyServer, own_kit: JobKit, provider: ProviderStub
) -> None:
    job = await lost(own_kit, provider, HELD)
    await own_kit.leases._renew()
    await own_kit.redis.zadd(keys.LEASES, {job.job.id: 1})
    await own_kit.ledger.reap(renewed_ms=await own_kit.ledger.now_ms(), within=own_kit.leases.longest_gap)
    provider.plan("q", Step(text="again"))
    another = make_kit(own_valkey)
    outcome = await asyncio.wait_for(another.run(job.job), 20)
    assert isinstance(outcome, Answered)
    assert outcome.account.possible_duplicate_charge
    provider.release()
    assert await asyncio.wait_for(job.task, 20) is None


async def test_a_job_that_another_has_claimed_stays_with_it(own_kit: JobKit, provider: ProviderStub) -> None:
    job = await lost(own_kit, provider, HELD)
    await job.submit_again()
    assert await job.claim("another") == ("granted", 1001)
    await own_kit.leases._renew()
    assert (job.execution.stop_reason, own_kit.leases.lost) == (StopReason.LOST, 1)
    provider.release()
    assert await asyncio.wait_for(job.task, 20) is None
    assert await job.field("worker") == "another"


@pytest.mark.parametrize(
    "change", [{"fingerprints": "plain:other"}, {"cancel_by": "caller"}, {"claimed_ms": "1"}]
)
async def test_only_the_same_job_that_nobody_had_is_taken_over(
    own_kit: JobKit, provider: ProviderStub, change: dict[str, str]
) -> None:
    job = await lost(own_kit, provider, HELD)
    await job.submit_again()
    ((name, value),) = change.items()
    await own_kit.redis.hset(keys.job_key(job.job.id), name, value)
    await own_kit.leases._renew()
    assert await job.field("state") == "queued"
    provider.release()
    assert await asyncio.wait_for(job.task, 20) is None


async def test_a_stream_goes_on(own_kit: JobKit, provider: ProviderStub) -> None:
    job = await lost(own_kit, provider, Step(words=40, chunk_delay_s=0.02), stream=True)
    await async_wait_until(lambda: job.field("state"), 10)
    assert not await own_kit.ledger.frames("no job", after=START, most=1)
    await job.answered(provider)
    frames = await own_kit.ledger.frames(job.job.id, after=START, most=500)
    assert {at.epoch for at, _ in frames} == {1}
    assert frames[-1][1] == "end:answered"


async def test_a_retry_is_put_on_record(own_kit: JobKit, provider: ProviderStub) -> None:
    job = await lost(own_kit, provider, Step(hold=True, status=500))
    provider.release()
    assert isinstance(await asyncio.wait_for(job.task, 20), Answered)
    assert len(provider.requests("q")) == 2


async def test_a_job_that_is_parked_next_can_be_run_by_any_worker(
    own_kit: JobKit, provider: ProviderStub
) -> None:
    job = await lost(own_kit, provider, Step(hold=True, status=429, retry_after_s=2.0))
    provider.release()
    assert await asyncio.wait_for(job.task, 20) is None, "it waits for the provider's limit"
    record = await own_kit.ledger.record(job.job.id)
    assert record is not None
    assert record.state is JobState.QUEUED
    assert open_call(record.job, own_kit.sealer) == job.execution.call


async def test_a_worker_is_told_of_a_cancel(own_kit: JobKit, provider: ProviderStub) -> None:
    listener = CancelListener(own_kit.redis, own_kit.leases, own_kit.ledger.limits)
    listening = asyncio.create_task(listener.run())
    job = await lost(own_kit, provider, HELD)
    await async_wait_until(lambda: own_kit.redis.pubsub_numsub(keys.CANCEL_CHANNEL), 10)
    verdict = await cancel_job(own_kit.ledger, own_kit.sealer, job.job.id, by="caller", owner=job.job.owner)
    assert verdict == "missing"
    outcome = await asyncio.wait_for(job.task, 20)
    assert outcome is not None
    assert outcome.kind == "cancelled"
    listening.cancel()


async def test_a_worker_leaves_a_job_to_its_holder_until_that_had_time(
    make_kit: MakeKit, own_valkey: ValkeyServer, own_kit: JobKit, provider: ProviderStub
) -> None:
    """A holder that is gone has lost it after all."""
    job = await lost(own_kit, provider, HELD)
    job.task.cancel()
    await asyncio.gather(job.task, return_exceptions=True)
    await job.submit_again()
    provider.plan("q", Step(text="again"))
    another = make_kit(own_valkey, lease="1s", beat="300ms")
    renewing = asyncio.create_task(another.leases.run())
    outcome = await asyncio.wait_for(another.run(job.job), 20)
    assert isinstance(outcome, Answered)
    assert len(provider.requests("q")) == 2
    renewing.cancel()
