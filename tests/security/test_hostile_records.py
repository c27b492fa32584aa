"""Who can write to Redis can end a job, but not read, forge or move one, nor harm a worker."""

import asyncio
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from rustic_ai.llm_queue.resolver import IdempotencyConflict, InvalidRecord, JobNotFound, LimitExceeded
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.job import Job, seal_call
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed, Outcome
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer, make_key
from rustic_ai.llm_queue.tasks.result import encode_result
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.callers.hostile import OWNER, a_call, a_job, outcome_of, tampered_outcome
from support.callers.llm import MakeLLM, ask
from support.callers.malformed import malformed_messages
from support.processes.leaks import assert_no_lasting_keys
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.fortress import Fortress


@pytest.fixture
def admin(fortress: Fortress) -> Iterator[redis.Redis]:
    with fortress.server.client() as client:
        yield client


def tampered(engine: Engine, admin: redis.Redis, change: Callable[[Job], dict[str, str]]) -> Outcome:
    """How a job ends whose record is changed before a worker takes it."""
    job = a_job(a_call(prompt="Hi #tampered"), engine.settings)
    return engine.call(lambda: tampered_outcome(engine, job, admin, change(job)))


def assert_invalid(outcome: Outcome) -> None:
    assert isinstance(outcome, Failed), outcome
    assert outcome.error.kind is ErrorKind.INVALID_RECORD


def _altered(sealed: str, at: int) -> str:
    swapped = "A" if sealed[at] != "A" else "B"
    return sealed[:at] + swapped + (sealed[at + 1 :] if at != -1 else "")


def _another() -> Job:
    return a_job(a_call(prompt="Hi #tampered"), QueueSettings())


def _unsealed(job: Job) -> str:
    return seal_call(a_call(), Sealer(KeyRing({})), job_id=job.id, owner=job.owner)[0]


def _sealed_by_a_stranger(job: Job) -> str:
    return seal_call(a_call(), Sealer(KeyRing.parse(make_key())), job_id=job.id, owner=job.owner)[0]


def _of_another_owner() -> str:
    return OWNER.model_copy(update={"guild": "another"}).model_dump_json()


HOSTILE_CHANGES: dict[str, Callable[[Job], dict[str, str]]] = {
    "altered": lambda job: {"request": _altered(job.request, -10)},
    "cut": lambda job: {"request": job.request[:-8]},
    "longer": lambda job: {"request": job.request + "AAAA"},
    "another job's": lambda job: {"request": _another().request},
    "another job's whole record": lambda job: _another().to_hash(),
    "another owner's": lambda job: {"owner": _of_another_owner()},
    "not sealed": lambda job: {"request": _unsealed(job)},
    "sealed by an unknown key": lambda job: {"request": _sealed_by_a_stranger(job)},
    "of an unknown scheme": lambda job: {"request": "rot13:" + job.request},
    "sealed at another time": lambda job: {"request": job.request.replace(":17", ":18", 1)},
    "empty": lambda job: {"request": ""},
    "of a newer version": lambda job: {"v": "2"},
    "of no version": lambda job: {"v": "x"},
    "of a version beyond numbers": lambda job: {"v": "9" * 5_000},
}


@pytest.mark.parametrize("change", HOSTILE_CHANGES.values(), ids=HOSTILE_CHANGES)
def test_a_request_that_was_tampered_with_is_not_run(
    engine: Engine, admin: redis.Redis, provider: ProviderStub, change: Callable[[Job], dict[str, str]]
) -> None:
    assert_invalid(tampered(engine, admin, change))
    assert provider.requests("tampered") == [], "nothing was sent to a provider"


def test_a_request_that_was_kept_for_later_is_stale(
    engine: Engine, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch, provider: ProviderStub
) -> None:
    long_ago = time.time() - timedelta(days=3).total_seconds()
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: long_ago)
        job = a_job(a_call(prompt="Hi #tampered"), engine.settings)
    outcome = engine.call(lambda: outcome_of(engine, job))
    assert_invalid(outcome)
    assert isinstance(outcome, Failed)
    assert "stale" in outcome.error.message
    assert provider.requests("tampered") == []


def test_a_request_larger_than_the_limit_is_refused_unopened(engine: Engine, admin: redis.Redis) -> None:
    outcome = tampered(engine, admin, lambda _: {"request": "aes256gcm:k:1:" + "A" * 400_000})
    assert isinstance(outcome, Failed)
    assert outcome.error.kind is ErrorKind.LIMIT_EXCEEDED
    assert "LLM_QUEUE_MAX_BODY_BYTES" in outcome.error.message


HOSTILE_VALUES = [
    "", "x", "-1", "0", "1e999", "nan", "inf", "9" * 400, "9" * 5_000, "[" * 50_000, '{"a":' * 50_000,
    "null", "\x00", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "'; return 1 --",
]  # fmt: skip
FIELDS = [
    "v", "id", "owner", "model", "queue", "priority", "timeout_ms", "on_worker_loss", "stream",
    "stream_ttl_s", "estimated_tokens", "traceparent", "request", "fingerprints", "state", "created_ms",
    "deadline_ms", "epoch", "attempts_begun", "handbacks", "attempts", "worker", "generation", "unknown",
]  # fmt: skip


def test_a_record_of_anything_ends_and_the_worker_lives(
    engine: Engine, admin: redis.Redis, fortress: Fortress, llm: MakeLLM
) -> None:
    """Every field with some hostile values; the random choice is of a fixed seed."""
    chosen = random.Random(5)
    changes = [{name: value} for name in FIELDS for value in chosen.sample(HOSTILE_VALUES, 3)]

    async def ended(at: int, change: dict[str, str]) -> str:
        # Each of a guild of its own, or they would wait for one another.
        owner = OWNER.model_copy(update={"guild": f"g{at}"})
        job = a_job(a_call(prompt="Hi #anything"), engine.settings, owner=owner, timeout_ms=8_000)
        try:
            outcome = await tampered_outcome(engine, job, admin, change, timeout_s=30.0)
        except Exception as error:
            return type(error).__name__
        return outcome.error.kind.value if isinstance(outcome, Failed) else outcome.kind

    async def all_of_them() -> list[str]:
        return list(await asyncio.gather(*(ended(*one) for one in enumerate(changes))))

    found = engine.call(all_of_them)
    ends = {"answered", "expired", "invalid_record", "worker_lost", "limit_exceeded"}
    odd = {str(changes[at])[:80]: end for at, end in enumerate(found) if end not in ends}
    assert odd == {}, fortress.worker.log_tail()
    assert llm().completion(ask("still there?"))
    assert_no_lasting_keys(admin, timeout_s=30)


def test_messages_of_anything_are_put_aside_and_the_worker_lives(
    admin: redis.Redis, fortress: Fortress, llm: MakeLLM
) -> None:
    chosen = random.Random(7)
    known = list(malformed_messages().values())
    mutated = []
    for _ in range(300):
        changed = bytearray(chosen.choice(known))
        for _ in range(chosen.randint(1, 4)):
            changed[chosen.randrange(len(changed))] = chosen.randrange(256)
        mutated.append(bytes(changed))
    mutated += [os.urandom(chosen.randint(0, 200)) for _ in range(100)]
    for raw in mutated:
        admin.lpush("llm", raw)
    wait_until(lambda: admin.llen("llm") == 0, 30, "the queue to be empty")
    assert llm().completion(ask("still there?"))
    assert fortress.worker.running


def test_a_forged_result_is_not_believed(
    engine: Engine, admin: redis.Redis, llm: MakeLLM, provider: ProviderStub
) -> None:
    """Published, it is ignored; stored, it is an error and no answer."""
    provider.plan("slow", Step(text="the truth", hold=True))
    handle = llm().submit(ask("Hi #slow"))
    provider.wait_for_requests(1, "slow")
    lie = Answered(account=Account(), model="m", response={"choices": [{"message": {"content": "a lie"}}]})
    forged = [
        encode_result(lie, job_id=handle.id, owner=OWNER, sealer=Sealer(KeyRing({}))),
        encode_result(lie, job_id=handle.id, owner=OWNER, sealer=Sealer(KeyRing.parse(make_key()))),
        encode_result(lie, job_id=str(uuid.uuid4()), owner=OWNER, sealer=engine.settings.sealer()),
        '{"v": 1e999, "sealed": ""}', "[" * 100_000, "null", "9" * 5_000, "",
    ]  # fmt: skip

    async def wait() -> Any:
        waiting = asyncio.ensure_future(handle.async_result())
        for _ in range(50):
            await asyncio.sleep(0.01)
            for one in forged:
                admin.publish(keys.result_key(handle.id), one)
        provider.release("slow")
        return await waiting

    assert asyncio.run(wait()).choices[0].message.content == "the truth"
    admin.set(keys.result_key(handle.id), forged[0], ex=60)
    with pytest.raises(InvalidRecord):
        handle.result()


def test_another_agents_job_is_not_found(llm: MakeLLM) -> None:
    handle = llm("acme", "support", "alice").submit(ask("Hi"))
    handle.result()
    for owner in (("acme", "support", "bob"), ("acme", "sales", "alice"), ("evil", "support", "alice")):
        stolen = llm(*owner).job(handle.id)
        for act in (stolen.status, stolen.result, stolen.cancel):
            with pytest.raises(JobNotFound):
                act()


@pytest.mark.parametrize(
    "job_id", ["", "x", "../etc", "llmq:job:x", "2d5c3d4c-c382-4542-b65c-cdf44ee0c7e7x", "*", "\x00"]
)
def test_a_job_id_that_is_no_uuid_is_refused(llm: MakeLLM, job_id: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        llm().job(job_id)


def test_an_idempotency_key_is_its_owners_own(llm: MakeLLM, admin: redis.Redis) -> None:
    mine = llm("acme", "support", "alice").submit(ask("Hi"), idempotency_key="order-1")
    assert llm("acme", "support", "alice").submit(ask("Hi"), idempotency_key="order-1").id == mine.id
    assert llm("acme", "support", "bob").submit(ask("Hi"), idempotency_key="order-1").id != mine.id
    with pytest.raises(IdempotencyConflict):
        llm("acme", "support", "alice").submit(ask("Bye"), idempotency_key="order-1")
    # A key is no way to another key of Redis'.
    target = keys.job_key(mine.id)
    assert llm("acme", "support", "mallory").submit(ask("Hi"), idempotency_key=target).id != mine.id


def test_a_limit_is_the_agents_first_and_the_workers_again(
    engine: Engine, llm: MakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**params: Any) -> tuple[ErrorKind, str]:
        outcome = engine.call(lambda: outcome_of(engine, a_job(a_call(**params), engine.settings)))
        assert isinstance(outcome, Failed)
        return outcome.error.kind, outcome.error.message

    kind, message = refused(n=5)
    assert (kind, "LLM_QUEUE_MAX_N" in message) == (ErrorKind.LIMIT_EXCEEDED, True)
    with monkeypatch.context() as patched:
        patched.setenv("LLM_QUEUE_MAX_N", "4")
        with pytest.raises(LimitExceeded, match="LLM_QUEUE_MAX_N"):
            llm().completion(ask("Hi", n=5))
    kind, message = refused(prompt="x" * 250_000)
    assert (kind, "LLM_QUEUE_MAX_BODY_BYTES" in message) == (ErrorKind.LIMIT_EXCEEDED, True)
    kind, _ = refused(prompt=[{"type": "image_url", "image_url": "file:///etc/passwd"}])
    assert kind is ErrorKind.ENDPOINT_NOT_ALLOWED
    kind, _ = refused(prompt=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}}])
    assert kind is ErrorKind.BAD_REQUEST
