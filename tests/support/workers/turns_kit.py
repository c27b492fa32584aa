"""Workers' hands over the real functions: they pop wake-ups as Celery's transport does, claim and finish."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import PRIORITIES, Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.policy.fair_share import FairShare
from support.workers.engine_kit import TTL, a_job

LEASE = timedelta(seconds=60)


@dataclass
class Hands:
    """One queue's submitters and workers, by hand."""

    redis: Redis
    ledger: Ledger = field(init=False)
    #: The jobs that were taken, in their order, and those under way with their epochs.
    taken: list[Job] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.redis, result_ttl=TTL)

    async def submit(self, org: str, guild: str = "g", tokens: int = 100, **fields: Any) -> Job:
        owner = Owner(org=org, guild=guild, agent="a")
        job = a_job(owner=owner, estimated_tokens=tokens, fingerprints=uuid.uuid4().hex, **fields)
        self.jobs[job.id] = job
        await self.ledger.submit(job)
        return job

    async def share(self, **policy: Any) -> int:
        """Keep the turns as a reaper does; how many jobs were lifted."""
        lifted, unsorted = await self.ledger.turns.share("llm", FairShare(**policy), patience=timedelta(0))
        while unsorted:
            more, unsorted = await self.ledger.turns.share("llm", FairShare(**policy), patience=timedelta(0))
            lifted += more
        return lifted

    async def take(self) -> Job | None:
        """Claim the job of the next wake-up; None when no wake-up lies in any list."""
        while (message := await self._pop()) is not None:
            if (job := await self.claim(json.loads(message)["headers"]["id"])) is not None:
                return job
        return None

    async def _pop(self) -> str | None:
        for priority in PRIORITIES:
            message = await self.redis.rpop(keys.message_list("llm", priority))
            if message is not None:
                return str(message)
        return None

    async def claim(self, job_id: str) -> Job | None:
        claim = await self.ledger.claim(
            job_id, worker="w", token=uuid.uuid4().hex, lease=LEASE, most_losses=2
        )
        if claim.verdict != "granted":
            return None
        job = self.jobs[job_id]
        self.taken.append(job)
        self.running[job_id] = claim.epoch
        return job

    async def finish(self, job: Job, used: tuple[int, int] | None = None) -> None:
        charge = Charge(job.owner, job.model, None, *used) if used else None
        done = await self.ledger.finish(
            job.id, self.running.pop(job.id), JobState.ANSWERED, "{}", attempts=(), charge=charge
        )
        assert done == "done"

    async def run(self, most: int = 100_000) -> None:
        """One place's work, until nothing waits any more or `most` were run."""
        for _ in range(most):
            job = await self.take()
            if job is None:
                return
            await self.finish(job)

    async def places(self) -> dict[str, list[str]]:
        """Where each job that waits or runs is, by every structure that may hold it."""
        found: dict[str, list[str]] = {}

        def note(place: str, ids: Any) -> None:
            for job_id in ids:
                found.setdefault(job_id, []).append(place)

        note("arrivals", [one for one in await self.redis.lrange("llmq:arrivals:llm", 0, -1) if one != "-"])
        note("leases", await self.redis.zrange(keys.LEASES, 0, -1))
        async for key in self.redis.scan_iter("llmq:backlog:*"):
            note("backlog", await self.redis.zrange(key, 0, -1))
        for priority in PRIORITIES:
            messages = await self.redis.lrange(keys.message_list("llm", priority), 0, -1)
            note("window", [json.loads(message)["headers"]["id"] for message in messages])
        return found

    def shares(self, last: int | None = None) -> Counter[str]:
        """How many jobs of each organisation were taken."""
        return Counter(job.owner.org for job in self.taken[:last])
