"""What tests of the client engine share: jobs, and a worker's hands."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

from redis.asyncio import Redis

from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.job import NORMAL, Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.result import encode_result, outcome_state
from support.servers.valkey import ValkeyServer

OWNER = Owner(org="acme", guild="support", agent="helper")
PLAIN = Sealer(KeyRing({}))
TTL = timedelta(minutes=5)


def a_job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "owner": OWNER,
        "model": "gpt-4",
        "queue": "llm",
        "timeout_ms": 60_000,
        "request": "plain:{}",
        "fingerprints": "plain:1",
    }
    return Job(**fields | changes)


def answer_text(outcome: Outcome) -> str:
    assert isinstance(outcome, Answered)
    text: str = outcome.response["text"]
    return text


@asynccontextmanager
async def worker_hands(url: str) -> AsyncIterator[Callable[[str, str], Any]]:
    """A function that answers a queued job the way a worker does."""
    redis: Redis = Redis.from_url(url, decode_responses=True)
    ledger = Ledger(redis, result_ttl=TTL)

    async def answer(job_id: str, text: str) -> None:
        outcome = Answered(account=Account(), model="gpt-4", response={"text": text})
        await _settle(ledger, job_id, outcome, OWNER)

    yield answer
    await redis.aclose()


async def _settle(ledger: Ledger, job_id: str, outcome: Answered | Failed, owner: Owner) -> None:
    claim = await ledger.claim(
        job_id, worker="w", token=uuid.uuid4().hex, lease=timedelta(seconds=15), most_losses=0
    )
    assert claim.verdict == "granted"
    meta = encode_result(outcome, job_id=job_id, owner=owner, sealer=PLAIN, epoch=claim.epoch)
    state, dead = outcome_state(outcome), isinstance(outcome, Failed)
    assert await ledger.finish(job_id, claim.epoch, state, meta, attempts=(), dead=dead) == "done"


def await_answer(engine: Engine, job: Job, *, deadline_s: float = 40) -> Outcome:
    """Submit a job and wait for its end, as a whole call does."""

    async def go() -> Outcome:
        with engine.expecting(job.id):
            await engine.submit(job)
            return await engine.outcome(job.id, OWNER, deadline_s=deadline_s, job=job)

    return engine.call(go)


def answer_now(url: str, job_id: str, text: str) -> None:
    async def go() -> None:
        async with worker_hands(url) as answer:
            await answer(job_id, text)

    asyncio.run(go())


def settle_now(url: str, job_id: str, outcome: Answered | Failed, owner: Owner) -> None:
    """Claim a queued job and end it, as a worker does."""

    async def go() -> None:
        async with Redis.from_url(url, decode_responses=True) as redis:
            await _settle(Ledger(redis, result_ttl=TTL), job_id, outcome, owner)

    asyncio.run(go())


def waiting_job(valkey: ValkeyServer) -> str | None:
    """The id of a job that waits in the queue, if there is one."""
    with valkey.client() as client:
        ids: list[str] = client.zrange(keys.queued_key("llm", NORMAL), 0, 0)
    return ids[0] if ids else None


def queued(valkey: ValkeyServer, job: Job) -> bool:
    with valkey.client() as client:
        return client.zscore(keys.queued_key("llm", job.priority), job.id) is not None


def subscribed(valkey: ValkeyServer, channels: int) -> bool:
    return any(one["sub"] == str(channels) for one in valkey.connections())


class in_thread:  # noqa: N801  reads as a verb
    """Runs a call in a thread; `result` is there after the context, or its exception raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._thread.join(60)
            assert not self._thread.is_alive()
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self._error = error
