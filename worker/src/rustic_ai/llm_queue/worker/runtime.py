from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import SOCKET_TIMEOUT_S, connect
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
from .reuse.answer_cache import AnswerCache
from .reuse.answer_reuse import AnswerReuse
from .reuse.call_reuse import CallReuse
from .reuse.counters import ReuseCounters
from .reuse.vector_cache import VectorCache
from .reuse.vector_reuse import VectorReuse
from .settings import WorkerSettings
from .telemetry.budget_alerts import BudgetAlerts, SendEvent
from .telemetry.job_log import JobLog
from .telemetry.metrics import Metrics
from .telemetry.tracing import Tracing
from .telemetry.worker_metrics import PoolFigures

logger = logging.getLogger(__name__)

#: A cache slower than this is worth nothing.
_CACHE_TIMEOUT_S = 1.0


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
        outage_s = settings.outage.total_seconds()
        self._sealer = settings.sealer()
        to_redis = partial(connect, key_tag=settings.key_tag)
        self._redis: Redis = to_redis(settings.redis_url, outage_s=outage_s)
        self._listening: Redis = to_redis(settings.redis_url, outage_s=0)
        # Renewals never wait in line behind the jobs' own commands, nor for a dead connection.
        patience_s = min(settings.beat.total_seconds(), SOCKET_TIMEOUT_S)
        self._keeping: Redis = to_redis(
            settings.redis_url, outage_s=outage_s, max_connections=4, socket_timeout=patience_s
        )
        self.ledger = Ledger(self._redis, result_ttl=settings.result_ttl, costs_ttl=settings.costs_ttl)
        keeper = Ledger(self._keeping, result_ttl=settings.result_ttl)
        self.leases = Leases(keeper, self._sealer, lease=settings.lease, beat=settings.beat)
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
        # A cache that is away is a miss at once: its calls are not tried again.
        self._cache: Redis = (
            to_redis(settings.cache_url, outage_s=0, socket_timeout=_CACHE_TIMEOUT_S)
            if settings.cache_url
            else self._redis
        )
        self._reuse_counters = ReuseCounters()
        answers = AnswerCache(self._cache, self._sealer, settings.cache, self._reuse_counters)
        vectors = VectorCache(self._cache, self._sealer, settings.cache, self._reuse_counters)
        settlement = Settlement(self.ledger, self._sealer, self._observers)
        announcer = Announcer(self.ledger)
        self.reaper = Reaper(
            keeper,
            settlement,
            announcer,
            self.leases,
            queue=settings.queue,
            every=settings.reap_every,
            fair_share=settings.fair_share,
        )
        part = settings.fair_share.reserve
        #: None where all places are everybody's.
        self.reserved_places = (
            ReservedPlaces(self.ledger.turns, self.leases, queue=settings.queue, part=part) if part else None
        )
        self._intake = Intake()
        self._provider = Provider(
            settings,
            on_embedding_call=self._metrics.embeddings.call_made if self._metrics else None,
            jobs_on_their_way=self._intake.__len__,
        )
        self._ticker = Ticker(keeper.limits)
        self._alerts = self._budget_alerts(settings, send_event) if settings.budgets else None
        budgets = Budgets(
            settings.budgets,
            key=settings.key_ring().limit_key,
            max_output_tokens=settings.max_output_tokens,
        )
        gate = LimitGate(
            self.ledger.limits,
            self._provider.limit_rules,
            self._ticker,
            key=settings.key_ring().limit_key,
            budgets=budgets,
        )
        self._executor = Executor(
            settings=settings,
            ledger=self.ledger,
            sealer=self._sealer,
            leases=self.leases,
            settlement=settlement,
            announcer=announcer,
            provider=self._provider,
            observers=self._observers,
            intake=self._intake,
            cooldowns=Cooldowns(self.ledger.limits, gate.limits, longest=settings.max_cooldown),
            call_gates=[gate],
            reuse=CallReuse(
                AnswerReuse(
                    self.ledger.flights, answers, self._sealer, self._observers, self._reuse_counters
                ),
                VectorReuse(vectors, self._sealer, self._reuse_counters),
            ),
        )

    def _budget_alerts(self, settings: WorkerSettings, send_event: SendEvent | None) -> BudgetAlerts:
        # It waits on the connection that only listens.
        return BudgetAlerts(
            self._listening,
            url=settings.alert_url,
            secret=settings.key_ring().alert_key,
            registry=self._metrics.registry if self._metrics else None,
            send_event=send_event,
        )

    def services(self, pool: PoolFigures) -> list[Service]:
        """What runs beside the jobs in this pool."""
        services: list[Service] = [
            self.leases,
            CancelListener(self._listening, self.leases, self.ledger.limits),
            self.reaper,
            self._ticker,
            GoneCallers(Callers(self._keeping), self.ledger, self._sealer),
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
        for client in {self._redis, self._keeping, self._listening, self._cache}:
            await client.aclose()
        if self._metrics is not None:
            await self._metrics.close()


def _stop_reason() -> StopReason:
    return StopReason.SHUTDOWN if cancel_reason() is CancelReason.SHUTDOWN else StopReason.REVOKED
