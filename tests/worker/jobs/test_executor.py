"""One job's way through a worker: claim, admit, open, attempt, settle."""

import asyncio
from collections.abc import Mapping

import pytest

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Answered, Cancelled, Expired
from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.worker.admission.gate import Claimed, NextCall, Refused, Verdict
from rustic_ai.llm_queue.worker.jobs.execution import StopReason
from rustic_ai.llm_queue.worker.provider.targets.credentials import Target
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.workers.job_kit import MODEL, JobKit
from worker.jobs.conftest import MakeKit

#: No reaper or worker's consumer runs here: what is queued stays.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:dead")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_job_is_answered_with_one_post_and_nothing_stays_held(kit: JobKit, stream: bool) -> None:
    kit.stub.plan("q", Step(text="forty-two", prompt_tokens=11, completion_tokens=3))
    job = await kit.submit("why #q", stream=stream)
    outcome = await kit.run(job)
    assert isinstance(outcome, Answered)
    assert await kit.result(job) == outcome
    account = outcome.account
    assert (account.prompt_tokens, account.completion_tokens, account.worker) == (11, 3, "w1")
    assert [attempt.status for attempt in account.attempts] == ["ok"]
    assert len(kit.stub.requests("q")) == 1
    assert len(kit.leases) == 0
    (run,) = kit.ends.runs
    assert (run.job_id, run.outcome) == (job.id, outcome)
    assert (run.first_token_s is not None) is stream


async def test_a_second_wakeup_of_a_job_runs_nothing(kit: JobKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q")
    _, task = kit.start(job)
    await async_wait_until(lambda: kit.stub.open_calls, 10)
    assert await kit.run(job) is None
    kit.stub.release()
    assert isinstance(await task, Answered)
    assert await kit.run(job) is None
    assert kit.ends.verdicts == ["leased", "final"]
    assert len(kit.stub.requests("q")) == 1


async def test_a_cancelled_job_ends_at_once_and_its_call_is_closed(kit: JobKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q")
    execution, task = kit.start(job)
    await async_wait_until(lambda: kit.stub.open_calls, 10)
    execution.stop(StopReason.CANCELLED)
    outcome = await task
    assert isinstance(outcome, Cancelled)
    assert [attempt.status for attempt in outcome.account.attempts] == ["cancelled"]
    assert await kit.state(job) is JobState.CANCELLED
    await async_wait_until(lambda: not kit.stub.open_calls, 10)


async def test_a_cut_off_streams_tokens_are_reckoned_from_its_text(kit: JobKit) -> None:
    kit.stub.plan("q", Step(words=2000, chunk_delay_s=0.01, prompt_tokens=77))
    job = await kit.submit("why #q", stream=True, estimated_tokens=5)
    execution, task = kit.start(job)
    await async_wait_until(lambda: execution.first_token_s, 10)
    execution.stop(StopReason.CANCELLED)
    outcome = await task
    assert outcome is not None
    assert outcome.account.usage_estimated
    assert outcome.account.completion_tokens
    assert outcome.account.cost_usd


async def test_a_job_whose_deadline_passes_is_expired(kit: JobKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q", timeout_ms=300)
    assert isinstance(await kit.run(job), Expired)
    assert await kit.state(job) is JobState.EXPIRED


async def test_a_job_of_a_stopping_worker_is_taken_over(kit: JobKit, make_kit: MakeKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q")
    execution, task = kit.start(job)
    await async_wait_until(lambda: kit.stub.open_calls, 10)
    execution.stop(StopReason.SHUTDOWN)
    assert await task is None
    assert await kit.state(job) is JobState.QUEUED
    outcome = await make_kit().run(job)
    assert isinstance(outcome, Answered)
    assert [attempt.status for attempt in outcome.account.attempts] == ["lost", "ok"]
    assert outcome.account.possible_duplicate_charge


async def test_what_may_not_run_twice_ends_with_its_worker(kit: JobKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q", on_worker_loss="fail")
    execution, task = kit.start(job)
    await async_wait_until(lambda: kit.stub.open_calls, 10)
    execution.stop(StopReason.SHUTDOWN)
    await task
    assert await kit.failure(job) == "worker_lost"


async def test_a_worker_that_lost_the_job_writes_nothing(kit: JobKit) -> None:
    kit.stub.plan("q", Step(hold=True))
    job = await kit.submit("why #q")
    _, task = kit.start(job)
    await async_wait_until(lambda: kit.stub.open_calls, 10)
    await kit.redis.hset(keys.job_key(job.id), "epoch", "2")
    kit.stub.release()
    assert await task is None
    assert kit.ends.verdicts == ["stale"]
    assert await kit.redis.get(keys.result_key(job.id)) is None


async def test_the_last_try_was_put_on_record_before_its_post(kit: JobKit) -> None:
    kit.stub.plan("q", Step(status=500), Step(hold=True))
    job = await kit.submit("why #q")
    _, task = kit.start(job)
    await async_wait_until(lambda: len(kit.stub.requests("q")) == 2, 10)
    record = await kit.ledger.record(job.id)
    assert record is not None
    assert (record.attempts_begun, [attempt.error for attempt in record.attempts]) == (
        2,
        [ErrorKind.INTERNAL_SERVER],
    )
    kit.stub.release()
    await task


@pytest.mark.parametrize(
    ("field", "value"),
    [("request", "plain:{}"), ("timeout_ms", "x"), ("id", "another's"), ("owner", "{}"), ("attempts", "{")],
)
async def test_a_record_that_was_tampered_with_ends_without_a_call(
    kit: JobKit, field: str, value: str
) -> None:
    job = await kit.submit("why #q")
    await kit.redis.hset(keys.job_key(job.id), field, value)
    outcome = await kit.run(job)
    assert outcome is not None
    assert outcome.kind == "failed"
    assert await kit.redis.hget(keys.job_key(job.id), "state") == "failed"
    assert not kit.stub.requests()


async def test_a_job_that_policy_forbids_fails_without_a_call(
    make_kit: MakeKit, provider: ProviderStub
) -> None:
    kit = make_kit(allowed_models="anthropic/*")
    job = await kit.submit("why #q")
    await kit.run(job)
    assert await kit.failure(job) == "model_not_allowed"
    assert not provider.requests()


class NotedGate:
    """Lets jobs through, or not, and notes who holds its room."""

    def __init__(self, verdict: Verdict | Exception = "admitted") -> None:
        self.verdict, self.inside, self.left = verdict, list[str](), list[str]()

    async def admit(self, job: Claimed) -> Verdict:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        if self.verdict == "admitted":
            self.inside.append(job.job_id)
        return self.verdict

    async def leave(self, job: Claimed) -> None:
        self.inside.remove(job.job_id)
        self.left.append(job.job_id)


class NotedCallGate:
    """The same for each call, by model."""

    def __init__(self, **closed: Verdict | Exception) -> None:
        self.closed, self.asked = closed, list[tuple[str, int]]()

    async def admit(self, job: Claimed, call: NextCall) -> Verdict:
        model = call.target.model
        self.asked.append((model, len(call.ended)))
        verdict = self.closed.get(model.partition("/")[0], "admitted")
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def note_answer(
        self, job: Claimed, target: Target, usage: Usage, headers: Mapping[str, str]
    ) -> None:
        """Learns nothing."""


FULL = Refused(ErrorEnvelope(kind=ErrorKind.RATE_LIMIT, message="full"))


async def test_a_job_leaves_the_gates_it_passed_however_it_ends(kit: JobKit) -> None:
    outer, inner = NotedGate(), NotedGate()
    kit.gates = [outer, inner]
    kit.stub.plan("bad", Step(status=400))
    jobs = [await kit.submit(f"why #{tag}") for tag in ("good", "bad")]
    for job in jobs:
        await kit.run(job)
    assert outer.left == inner.left == [job.id for job in jobs]


async def test_a_parked_job_is_no_run_and_holds_no_gate(kit: JobKit) -> None:
    outer, closed = NotedGate(), NotedGate("parked")
    kit.gates = [outer, closed]
    job = await kit.submit("why #q")
    assert await kit.run(job) is None
    assert (outer.inside, outer.left) == ([], [job.id])
    assert kit.ends.runs == []
    assert not kit.stub.requests()


async def test_a_job_that_a_gate_refuses_fails_with_its_kind(kit: JobKit) -> None:
    outer = NotedGate()
    kit.gates = [outer, NotedGate(FULL)]
    job = await kit.submit("why #q")
    await kit.run(job)
    assert await kit.failure(job) == "rate_limit"
    assert (outer.inside, outer.left) == ([], [job.id])


async def test_every_call_passes_its_gates_and_a_refused_model_falls_back(kit: JobKit) -> None:
    gate = NotedCallGate(openai=FULL)
    kit.call_gates = [gate]
    kit.stub.plan("q", Step(status=500))
    job = await kit.submit("why #q", fallback_models=("anthropic/claude-sonnet-4-5",))
    outcome = await kit.run(job)
    assert isinstance(outcome, Answered)
    assert gate.asked == [
        (MODEL, 0),
        ("anthropic/claude-sonnet-4-5", 0),
        ("anthropic/claude-sonnet-4-5", 1),
    ]
    assert [one.provider for one in kit.stub.requests("q")] == ["anthropic"] * 2


async def test_a_job_parked_between_two_tries_is_left_to_the_ledger(kit: JobKit) -> None:
    class Second(NotedCallGate):
        async def admit(self, job: Claimed, call: NextCall) -> Verdict:
            await super().admit(job, call)
            return "parked" if call.ended else "admitted"

    kit.call_gates = [Second()]
    kit.stub.plan("q", Step(status=500))
    job = await kit.submit("why #q")
    assert await kit.run(job) is None
    assert (len(kit.stub.requests("q")), len(kit.leases)) == (1, 0)
    assert await kit.redis.get(keys.result_key(job.id)) is None


async def test_stopping_an_execution_before_its_work_begins(kit: JobKit) -> None:
    class Slow(NotedGate):
        async def admit(self, job: Claimed) -> Verdict:
            execution.stop(StopReason.CANCELLED)
            return await super().admit(job)

    kit.gates = [Slow()]
    job = await kit.submit("why #q")
    execution = kit.execution(job)
    outcome = await asyncio.wait_for(kit.executor.execute(execution), 10)
    assert isinstance(outcome, Cancelled)
    assert not kit.stub.requests()
