"""A fault of the worker's own, anywhere on a job's way: the job ends with it, at once and once.

Left to its lease it would be run again by the next worker, and billed again, to meet the same fault.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import ChunksFrame
from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer, make_key
from rustic_ai.llm_queue.worker.attempts import attempts
from rustic_ai.llm_queue.worker.jobs import executor
from rustic_ai.llm_queue.worker.jobs.execution import Execution
from rustic_ai.llm_queue.worker.jobs.leases import Leases
from rustic_ai.llm_queue.worker.jobs.streaming.publisher import StreamPublisher
from rustic_ai.llm_queue.worker.pool.loop import LoopThread
from rustic_ai.llm_queue.worker.provider.provider import Provider
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit

pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*", "llmq:dead")

CANARY = "canary-of-a-prompt"


def _planted(*_: Any, **__: Any) -> Any:
    raise KeyError(CANARY)


async def _planted_later(*_: Any, **__: Any) -> Any:
    raise KeyError(CANARY)


def _ending_the_process(*_: Any, **__: Any) -> Any:
    raise SystemExit(3)


def _cancelled_from_within(*_: Any, **__: Any) -> Any:
    raise asyncio.CancelledError


#: Where, what stands there instead, and the POSTs that are made before it is met.
PLACES: dict[str, tuple[object, str, Callable[..., Any], int]] = {
    "reading the record": (JobRecord, "from_hash", _planted, 0),
    "holding the lease": (Leases, "hold", _planted, 0),
    "the policy": (executor, "check_job", _planted, 0),
    "opening the request": (executor, "open_call", _planted, 0),
    "planning the attempts": (attempts, "AttemptPlan", _planted, 0),
    "choosing the target": (Provider, "target", _planted_later, 0),
    "a cancellation from within": (attempts, "AttemptPlan", _cancelled_from_within, 0),
    "the account": (Execution, "account", _planted, 1),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", PLACES)
async def test_a_fault_ends_the_job_at_once(
    kit: JobKit,
    make_kit: MakeKit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    stream: bool,
) -> None:
    owner, name, planted, posts = PLACES[place]
    job = await kit.submit(f"{CANARY} #q", stream=stream)
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(owner, name, planted)
        outcome = await kit.run(job)
    assert outcome is not None
    assert await kit.redis.hget(f"llmq:job:{job.id}", "state") == "failed"
    assert isinstance(outcome, Failed)
    assert outcome.error.kind is ErrorKind.WORKER_FAULT
    assert len(kit.stub.requests("q")) == posts
    assert await make_kit().run(job) is None, "run again by another worker"
    (fault, *_) = [record for record in caplog.records if record.exc_info]
    assert fault.exc_info is not None
    assert CANARY not in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.leaves_threads("the simulator's client")
def test_what_would_end_the_process_ends_the_job(
    valkey: ValkeyServer, provider: ProviderStub, provider_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the worker's own loop: asyncio lets such an exception of a task through to the thread."""
    monkeypatch.setattr(attempts, "AttemptPlan", _ending_the_process)
    thread = LoopThread()
    thread.start()

    async def scene() -> str:
        kit = JobKit(valkey, provider, "w1", Sealer(KeyRing.parse(make_key())))
        job = await kit.submit("why #q")
        await kit.run(job)
        kind = await kit.failure(job)
        await kit.close()
        return kind

    try:
        assert thread.run(scene()).result(20) == "worker_fault"
    finally:
        thread.stop()


async def test_a_fault_in_a_gate_ends_the_job_and_frees_the_others(kit: JobKit) -> None:
    left = []

    class Gate:
        async def admit(self, job: Any) -> Any:
            return "admitted"

        async def leave(self, job: Any) -> None:
            left.append(job.job_id)

    class Broken(Gate):
        admit = _planted_later

    kit.gates = [Gate(), Broken()]
    job = await kit.submit("why #q")
    await kit.run(job)
    assert await kit.failure(job) == "worker_fault"
    assert left == [job.id]


async def test_a_gate_that_cannot_be_left_changes_no_outcome(kit: JobKit) -> None:
    class Sticky:
        async def admit(self, job: Any) -> Any:
            return "admitted"

        leave = _planted_later

    kit.gates = [Sticky()]
    job = await kit.submit("why #q")
    assert isinstance(await kit.run(job), Answered)
    assert isinstance(await kit.result(job), Answered)


async def test_an_answer_that_has_no_written_form_ends_the_job_with_its_cost(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(self: Provider, response: dict[str, Any], target: Any) -> Any:
        completion = whole(self, response, target)
        completion.response["odd"] = "a \udcaf b"
        return completion

    whole = Provider._completion
    monkeypatch.setattr(Provider, "_completion", odd)
    job = await kit.submit("why #q")
    await kit.run(job)
    assert await kit.failure(job) == "worker_fault"
    outcome = await kit.result(job)
    assert outcome.account.cost_usd
    assert [attempt.status for attempt in outcome.account.attempts] == ["ok"]
    assert len(kit.stub.requests("q")) == 1


async def test_what_cannot_be_stored_of_an_account_is_left_out(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(self: Execution) -> Account:
        return Account(worker="w1", attempts=self.attempts.records).model_copy(update={"cost_usd": object()})

    monkeypatch.setattr(Execution, "account", odd)
    job = await kit.submit("why #q")
    await kit.run(job)
    assert await kit.failure(job) == "worker_fault"
    assert len(kit.stub.requests("q")) == 1


@pytest.mark.parametrize("place", ["_take", "_send", "_is_due"])
async def test_frames_that_cannot_be_made_cost_no_answer(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    kit.stub.plan("q", Step(words=50, chunk_delay_s=0.002))
    monkeypatch.setattr(StreamPublisher, place, _planted)
    job = await kit.submit("why #q", stream=True)
    outcome = await asyncio.wait_for(kit.run(job), 20)
    assert isinstance(outcome, Answered)
    assert len(kit.stub.requests("q")) == 1


async def test_a_frame_with_text_that_is_no_unicode_costs_no_answer(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChunksFrame, "model_dump_json", _planted)
    job = await kit.submit("why #q", stream=True)
    assert isinstance(await asyncio.wait_for(kit.run(job), 20), Answered)


async def test_an_observer_that_fails_changes_no_outcome(
    kit: JobKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit.ends, "run_ended", _planted)
    job = await kit.submit("why #q")
    assert isinstance(await kit.run(job), Answered)
