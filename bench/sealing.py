"""What sealing adds to a job's way over Redis: a request of 10 kB, an answer of 2 kB.

    python -m bench.sealing

One process is agent and worker in turn, with a real Redis between and neither LiteLLM nor a provider, so
that nothing hides the difference: build, seal and submit, claim and open, seal and store the result, read
and open it. LiteLLM adds 5-9 ms of CPU to a real call.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from datetime import timedelta

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks import keys
from rustic_ai.llm_queue.tasks.job import Job, JobState, open_call, seal_call
from rustic_ai.llm_queue.tasks.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.request import CompletionCall
from rustic_ai.llm_queue.tasks.result import decode_result, encode_result
from rustic_ai.llm_queue.tasks.seal import KeyRing, Purpose, Sealer, make_key
from support.valkey import ValkeyServer

OWNER = Owner(org="acme", guild="support", agent="helper")
CALL = CompletionCall(
    model="openai/gpt-4o-mini",
    params={
        "messages": [{"role": "user", "content": f"{at}: " + "a prompt of ten kB " * 50} for at in range(10)]
    },
)
ANSWER = Answered(
    account=Account(),
    model="openai/gpt-4o-mini",
    response={"choices": [{"message": {"role": "assistant", "content": "an answer of two kB " * 100}}]},
)
JOBS = 1_500


async def one_job(ledger: Ledger, redis: Redis, sealer: Sealer) -> None:
    """A job from its making to its reading."""
    job_id = str(uuid.uuid4())
    request, fingerprints = seal_call(CALL, sealer, job_id=job_id, owner=OWNER)
    job = Job(
        id=job_id, owner=OWNER, model=CALL.model, queue="bench", timeout_ms=60_000,
        request=request, fingerprints=fingerprints,
    )  # fmt: skip
    await ledger.submit(job)
    claim = await ledger.claim(job_id, worker="w", token="t", lease=timedelta(seconds=15), most_losses=2)
    assert claim.record is not None
    assert open_call(claim.record.job, sealer).model == CALL.model
    meta = encode_result(ANSWER, job_id=job_id, owner=OWNER, sealer=sealer)
    await ledger.finish(job_id, claim.epoch, JobState.ANSWERED, meta, attempts=())
    stored = await redis.getdel(keys.result_key(job_id))
    assert decode_result(str(stored), job_id=job_id, owner=OWNER, sealer=sealer).kind == "answered"


async def measure(url: str) -> tuple[float, float]:
    """CPU seconds a job takes this process, unsealed and sealed: medians of jobs that take turns."""
    plain, sealed = Sealer(KeyRing({})), Sealer(KeyRing.parse(make_key()))
    took: dict[Sealer, list[float]] = {plain: [], sealed: []}
    async with Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger(redis, result_ttl=timedelta(seconds=10))
        for _ in range(JOBS):
            for sealer, times in took.items():
                began = time.process_time()
                await one_job(ledger, redis, sealer)
                times.append(time.process_time() - began)
    return statistics.median(took[plain]), statistics.median(took[sealed])


def bare_cost() -> float:
    """Seconds to seal and open the request alone."""
    sealer, body = Sealer(KeyRing.parse(make_key())), CALL.model_dump_json()
    job_id, times = str(uuid.uuid4()), []
    for _ in range(2_000):
        began = time.process_time()
        sealed = sealer.seal(body, purpose=Purpose.REQUEST, job_id=job_id, owner=OWNER)
        sealer.open(sealed, purpose=Purpose.REQUEST, job_id=job_id, owner=OWNER)
        times.append(time.process_time() - began)
    return statistics.median(times)


def main() -> None:
    with ValkeyServer() as server:
        plain_s, sealed_s = asyncio.run(measure(server.url))
    size = len(CALL.model_dump_json())
    print(f"request of {size:,} bytes, {JOBS:,} jobs of each kind, medians of CPU time")
    print(f"unsealed  {plain_s * 1e6:7.0f} us a job")
    print(f"sealed    {sealed_s * 1e6:7.0f} us a job   x{sealed_s / plain_s:.3f}")
    print(f"seal and open of the request alone: {bare_cost() * 1e6:.0f} us")


if __name__ == "__main__":
    main()
