"""A client that does not keep to its own side's checks: what it likes, straight onto the queue."""

import uuid
from typing import Any

import redis

from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.call import CompletionCall, Endpoint
from rustic_ai.llm_queue.tasks.job import Job, seal_call
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.wakeup_message import wakeup_message
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings

_NO_WORKER = "nobody-works-here"

OWNER = Owner(org="rogues", guild="hostile", agent="mallory")


def a_call(model: str = "openai/gpt-4o-mini", *fallbacks: str, **params: Any) -> CompletionCall:
    """A call; `endpoint` and `prompt` are taken out of the parameters."""
    endpoint = Endpoint.model_validate(params.pop("endpoint", {}))
    messages = [{"role": "user", "content": params.pop("prompt", "Hi")}]
    return CompletionCall(
        model=model,
        fallback_models=fallbacks,
        params={"messages": messages, **params},
        endpoint=endpoint,
        max_retries=0,
    )


def a_job(call: CompletionCall, settings: QueueSettings, **fields: Any) -> Job:
    """The job of a call; `fields` take the place of the record's own."""
    job_id = str(fields.get("id", uuid.uuid4()))
    owner = fields.get("owner", OWNER)
    request, fingerprints = seal_call(call, settings.sealer(), job_id=job_id, owner=owner)
    known: dict[str, Any] = {
        "id": job_id,
        "owner": owner,
        "model": call.model,
        "queue": settings.queue,
        "timeout_ms": 20_000,
        "request": request,
        "fingerprints": fingerprints,
    }
    return Job(**known | fields)


async def outcome_of(engine: Engine, job: Job, timeout_s: float = 20.0) -> Outcome:
    """Submit a job and wait for its end."""
    await engine.submit(job)
    return await engine.outcome(job.id, job.owner, deadline_s=timeout_s)


async def tampered_outcome(
    engine: Engine, job: Job, admin: redis.Redis, changes: dict[str, str], timeout_s: float = 10.0
) -> Outcome:
    """Submit a job, change its record as who can write to Redis may, wake a worker, wait for the end."""
    ledger = Ledger(engine._redis, result_ttl=engine.settings.result_ttl)
    # On a queue that has no worker until it has been changed.
    await ledger.submit(job.model_copy(update={"queue": _NO_WORKER}))
    admin.delete(keys.queued_key(_NO_WORKER, job.priority))
    fields: Any = {"queue": job.queue, **changes}
    admin.hset(keys.job_key(job.id), mapping=fields)
    await engine._redis.lpush(keys.message_list(job.queue, job.priority), wakeup_message(job))
    return await engine.outcome(job.id, job.owner, deadline_s=timeout_s)
