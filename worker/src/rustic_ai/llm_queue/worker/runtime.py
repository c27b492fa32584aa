from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from rustic_ai.llm_queue.tasks.ledger.callers import Callers
from rustic_ai.llm_queue.tasks.ledger.cancel import cancel_job
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Outcome

from .admission.budgets import Budgets
from .admission.cooldowns import Cooldowns
from .admission.limit_gate import LimitGate
from .admission.ticker import Ticker
from .jobs.announcer import Announcer
from .jobs.execution import Execution, StopReason
from .jobs.executor import Executor
from .jobs.gone_callers import GoneCallers
from .jobs.intake import Intake
from .jobs.leases import CancelListener, Leases
from .jobs.observers import Observer, Observers
from .jobs.reaper import Reaper
from .jobs.reserved_places import ReservedPlaces
from .jobs.settlement import Settlement
from .pool.loop import Service
from .pool.pool_task import CancelReason, cancel_reason
from .provider.model_check import check_models
from .provider.provider import Provider
from .redis_clients import RedisClients
from .reuse.answer_cache import AnswerCache
from .reuse.answer_reuse import AnswerReuse
from .reuse.call_reuse import CallReuse
from .reuse.counters import ReuseCounters
from .reuse.vector_cache import VectorCache
from .reuse.vector_reuse import VectorReuse
from .settings import WorkerSettings
from .telemetry.budget_alerts import BudgetAlerts, SendEvent
from .telemetry.job_log import JobLog
from .telemetry.metrics.metrics import Metrics
from .telemetry.metrics.worker_metrics import PoolFigures
from .telemetry.tracing import Tracing

logger = logging.getLogger(__name__)


class Runtime:
    """Everything a worker process shares between its jobs; lives on the pool's event loop."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        worker: str,
        observers: Sequence[Observer] = (),
        send_event: SendEvent | None = None,
    ) -> None:
        """
        Args:
            observers: are notified beside the worker's own: its log, metrics and traces.
            send_event: tells Celery's monitors of what concerns no single job.
        """
        self._worker = worker
        self._policy_digest = settings.policy_digest()
        self._sealer = settings.sealer()
        self._redis = RedisClients(settings)
        self.ledger = Ledger(self._redis.jobs, result_ttl=settings.result_ttl, costs_ttl=settings.costs_ttl)
        self._keeper = Ledger(self._redis.keeping, result_ttl=settings.result_ttl)
        self.leases = Leases(self._keeper, self._sealer, lease=settings.lease, beat=settings.beat)
        self._metrics = Metrics(settings) if settings.metrics_port else None
        self._tracing = Tracing.of_environment(worker)
        self._observers = Observers(
            [
                JobLog(),
                *observers,
                *(self._metrics.observers if self._metrics else ()),
                *([self._tracing.observer] if self._tracing else ()),
            ]
        )
        self._settlement = Settlement(self.ledger, self._sealer, self._observers)
        self._announcer = Announcer(self.ledger)
        self.reaper = self._reaper(settings)
        #: None where all places are everybody's.
        self.reserved_places = self._reserved_places(settings)
        self._intake = Intake()
        self._provider = Provider(
            settings,
            on_embedding_call=self._metrics.embeddings.call_made if self._metrics else None,
            jobs_on_their_way=self._intake.__len__,
        )
        self._ticker = Ticker(self._keeper.limits)
        self._alerts = self._budget_alerts(settings, send_event) if settings.budgets else None
        self._reuse_counters = ReuseCounters()
        self._executor = self._make_executor(settings)

    def _reaper(self, settings: WorkerSettings) -> Reaper:
        return Reaper(
            self._keeper,
            self._settlement,
            self._announcer,
            self.leases,
            queue=settings.queue,
            every=settings.reap_every,
            fair_share=settings.fair_share,
        )

    def _reserved_places(self, settings: WorkerSettings) -> ReservedPlaces | None:
        part = settings.fair_share.reserve
        if not part:
            return None
        return ReservedPlaces(self.ledger.turns, self.leases, queue=settings.queue, part=part)

    def _make_executor(self, settings: WorkerSettings) -> Executor:
        gate = self._gate(settings)
        return Executor(
            settings=settings,
            ledger=self.ledger,
            sealer=self._sealer,
            leases=self.leases,
            settlement=self._settlement,
            announcer=self._announcer,
            provider=self._provider,
            observers=self._observers,
            intake=self._intake,
            cooldowns=Cooldowns(self.ledger.limits, gate.limits, longest=settings.max_cooldown),
            call_gates=[gate],
            reuse=self._reuse(settings),
        )

    def _gate(self, settings: WorkerSettings) -> LimitGate:
        key = settings.key_ring().limit_key
        budgets = Budgets(settings.budgets, key=key, max_output_tokens=settings.max_output_tokens)
        rules = self._provider.limit_rules
        return LimitGate(self.ledger.limits, rules, self._ticker, key=key, budgets=budgets)

    def _reuse(self, settings: WorkerSettings) -> CallReuse:
        sealer, counters = self._sealer, self._reuse_counters
        answers = AnswerCache(self._redis.cache, sealer, settings.cache, counters)
        vectors = VectorCache(self._redis.cache, sealer, settings.cache, counters)
        return CallReuse(
            AnswerReuse(self.ledger.flights, answers, sealer, self._observers, counters),
            VectorReuse(vectors, sealer, counters),
        )

    def _budget_alerts(self, settings: WorkerSettings, send_event: SendEvent | None) -> BudgetAlerts:
        # It waits on the connection that only listens.
        return BudgetAlerts(
            self._redis.listening,
            url=settings.alert_url,
            secret=settings.key_ring().alert_key,
            key=settings.key_ring().limit_key,
            registry=self._metrics.registry if self._metrics else None,
            send_event=send_event,
        )

    def services(self, pool: PoolFigures) -> list[Service]:
        """What runs beside the jobs in this pool."""
        services: list[Service] = [
            self.leases,
            self.leases.standstill,
            CancelListener(self._redis.listening, self.leases, self.ledger.limits),
            self.reaper,
            self._ticker,
            GoneCallers(Callers(self._redis.keeping), self.ledger, self._sealer),
        ]
        if self.reserved_places is not None:
            services.append(self.reserved_places)
        if self._alerts is not None:
            services.append(self._alerts)
        if self._metrics is not None:
            services += self._metrics.services(
                pool, self.leases, self.reaper, self._reuse_counters, self._provider.limit_rules
            )
        if self._tracing is not None:
            services.append(self._tracing)
        return services

    async def run_job(self, job_id: str) -> Outcome | None:
        """Run the job to its end. The caller's cancellation stops the work, never the settling."""
        execution = Execution(job_id, worker=self._worker)
        self._intake.add(execution)
        life = asyncio.create_task(self._executor.execute(execution))
        try:
            return await asyncio.shield(life)
        except asyncio.CancelledError:
            execution.stop(_stop_reason())
            await asyncio.wait([life])
            if life.exception() is not None:
                logger.error("Job %s could not be settled", job_id, exc_info=life.exception())
            raise
        finally:
            self._intake.discard(execution)

    async def cancel(self, job_id: str, *, by: str, waiting_only: bool = False) -> None:
        """Cancel a job by its id alone, on whichever worker it is."""
        await cancel_job(self.ledger, self._sealer, job_id, by=by, waiting_only=waiting_only)

    async def check(self, models: Sequence[str]) -> dict[str, Any]:
        """What keeps this worker from running jobs for these models; its keys and its clock."""
        skew_s = time.time() - await self.ledger.now_ms() / 1000
        return {
            "sealing_keys": self._sealer.key_ids,
            "clock_skew_s": round(skew_s, 3),
            "policy": self._policy_digest,
            "models": await check_models(self._provider, models),
        }

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.close()
        if self._metrics is not None:
            await self._metrics.close()


def _stop_reason() -> StopReason:
    return StopReason.SHUTDOWN if cancel_reason() is CancelReason.SHUTDOWN else StopReason.REVOKED
