"""A worker's heart in the test's own process: executor, leases, reaper and settlement on a real server.

Calls go to the provider simulator. No Celery, no pool, no second process: a test takes milliseconds.
"""

import asyncio
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, Endpoint, WhenLimited
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.job import Job, JobRecord, JobState, seal_call
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.result import decode_result
from rustic_ai.llm_queue.tasks.reuse.options import ReuseOptions
from rustic_ai.llm_queue.worker.provider.litellm_api.setup import load_litellm
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer

load_litellm(WorkerSettings())

from rustic_ai.llm_queue.worker.admission.budgets import Budgets  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.admission.cooldowns import Cooldowns  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.admission.gate import CallGate, JobGate  # noqa: E402 - LiteLLM's environment comes first
from rustic_ai.llm_queue.worker.admission.limit_gate import LimitGate  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.admission.ticker import Ticker  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.announcer import Announcer  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.execution import Execution  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.executor import Executor  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.intake import Intake  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.leases import Leases  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.observers import Observer, Observers  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.reaper import Reaper  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.jobs.settlement import Settlement  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.provider.provider import Provider  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.answer_cache import AnswerCache  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.answer_reuse import AnswerReuse  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.call_reuse import CallReuse  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.counters import ReuseCounters  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.vector_cache import VectorCache  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.reuse.vector_reuse import VectorReuse  # noqa: E402 - as above

OWNER = Owner(org="acme", guild="support", agent="helper")
MODEL = "openai/gpt-4o"


@dataclass
class NotedEnds(Observer):
    """Notes what an observer is notified of."""

    runs: list[Execution] = field(default_factory=list)
    concluded_ids: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    def run_ended(self, execution: Execution) -> None:
        self.runs.append(execution)

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        self.concluded_ids.append((job_id, outcome.kind))

    def avoided(self, verdict: str) -> None:
        self.verdicts.append(verdict)


class JobKit:
    """One worker's parts over a server and the provider simulator; more kits are more workers."""

    def __init__(
        self, server: ValkeyServer, stub: ProviderStub, name: str, sealer: Sealer, **settings: Any
    ) -> None:
        defaults = {"retry_base": "40ms", "allowed_hosts": "127.0.0.1", "redis_url": server.url}
        self.settings = WorkerSettings(**defaults | settings)
        self.stub, self.name = stub, name
        self.redis: Redis = connect(server.url, outage_s=self.settings.outage.total_seconds())
        self.ledger = Ledger(self.redis, result_ttl=timedelta(minutes=5))
        self.sealer = sealer
        self.ends = NotedEnds()
        self._observers = Observers([self.ends])
        self.settlement = Settlement(self.ledger, self.sealer, self._observers)
        self.announcer = Announcer(self.ledger)
        self.leases = Leases(self.ledger, sealer, lease=self.settings.lease, beat=self.settings.beat)
        self.provider = Provider(self.settings, dict(os.environ))
        self.reaper = Reaper(
            self.ledger, self.settlement, self.announcer, self.leases,
            queue=self.settings.queue, every=self.settings.reap_every,
            fair_share=self.settings.fair_share,
        )  # fmt: skip
        self.ticker = Ticker(self.ledger.limits)
        self.limits = LimitGate(
            self.ledger.limits, self.provider.limit_rules, self.ticker,
            key=self.settings.key_ring().limit_key,
            budgets=Budgets(
                self.settings.budgets,
                key=self.settings.key_ring().limit_key,
                max_output_tokens=self.settings.max_output_tokens,
            ),
        )  # fmt: skip
        self.cooldowns = Cooldowns(self.ledger.limits, self.limits.limits, longest=self.settings.max_cooldown)
        self.gates: Sequence[JobGate] = ()
        self.call_gates: Sequence[CallGate] = (self.limits,)
        counters, policy = ReuseCounters(), self.settings.cache
        self.reuse = CallReuse(
            AnswerReuse(
                self.ledger.flights,
                AnswerCache(self.redis, sealer, policy, counters),
                sealer,
                self._observers,
                counters,
            ),
            VectorReuse(VectorCache(self.redis, sealer, policy, counters), sealer, counters),
        )

    @property
    def executor(self) -> Executor:
        return Executor(
            settings=self.settings,
            ledger=self.ledger,
            sealer=self.sealer,
            leases=self.leases,
            settlement=self.settlement,
            announcer=self.announcer,
            provider=self.provider,
            observers=self._observers,
            intake=Intake(),
            cooldowns=self.cooldowns,
            gates=self.gates,
            call_gates=self.call_gates,
            reuse=self.reuse,
        )

    async def close(self) -> None:
        await self.redis.aclose()

    async def submit(
        self, prompt: str, *, stream: bool = False, owner: Owner = OWNER, max_retries: int = 2,
        fallback_models: tuple[str, ...] = (), endpoint: Endpoint | None = None, model: str = MODEL,
        params: Mapping[str, Any] | None = None, max_cost_usd: float | None = None,
        budget_run: str | None = None, reply_channel: str | None = None,
        when_limited: WhenLimited = "wait", max_wait_s: float | None = None,
        reuse: ReuseOptions | None = None, **fields: Any,
    ) -> Job:  # fmt: skip
        """A job in the queue, as the resolver puts it there."""
        job_id = str(uuid.uuid4())
        call = CompletionCall(
            model=model,
            max_cost_usd=max_cost_usd,
            budget_run=budget_run,
            when_limited=when_limited,
            max_wait_s=max_wait_s,
            fallback_models=fallback_models,
            params={"messages": [{"role": "user", "content": prompt}], **(params or {})},
            endpoint=endpoint or Endpoint(),
            stream=stream,
            max_retries=max_retries,
            reuse=reuse,
        )
        return await self.submit_call(
            call, job_id=job_id, owner=owner, reply_channel=reply_channel, stream=stream, **fields
        )

    async def submit_call(
        self, call: Call, *, job_id: str | None = None, owner: Owner = OWNER, stream: bool = False,
        reply_channel: str | None = None, **fields: Any,
    ) -> Job:  # fmt: skip
        """A call of any kind in the queue."""
        job_id = job_id or str(uuid.uuid4())
        request, fingerprints = seal_call(call, self.sealer, job_id=job_id, owner=owner)
        job = Job(
            id=job_id, owner=owner, kind=call.kind, model=call.model, queue=self.settings.queue,
            stream=stream, stream_ttl_s=60.0 if stream else None, request=request, fingerprints=fingerprints,
            **{"timeout_ms": 60_000, **fields},
        )  # fmt: skip
        await self.ledger.submit(job, reply_channel=reply_channel)
        return job

    def execution(self, job: Job) -> Execution:
        return Execution(job.id, worker=self.name)

    async def run(self, job: Job) -> Outcome | None:
        """Claim the job and carry it to its end."""
        return await self.executor.execute(self.execution(job))

    def start(self, job: Job) -> tuple[Execution, asyncio.Task[Outcome | None]]:
        """The same, under way; to be stopped by the execution."""
        execution = self.execution(job)
        return execution, asyncio.create_task(self.executor.execute(execution))

    async def result(self, job: Job) -> Outcome:
        """How the job ended, as its caller reads it."""
        meta = await self.redis.get(keys.result_key(job.id))
        assert isinstance(meta, str), "no result is stored"
        return decode_result(meta, job_id=job.id, owner=job.owner, sealer=self.sealer).outcome

    async def state(self, job: Job) -> JobState:
        record = await self.ledger.record(job.id)
        assert record is not None
        return record.state

    async def failure(self, job: Job) -> str:
        """The kind of the error that the job ended with."""
        outcome = await self.result(job)
        assert isinstance(outcome, Failed), outcome
        return outcome.error.kind.value
