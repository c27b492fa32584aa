from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.flights import Flights
from rustic_ai.llm_queue.tasks.outcome import Answered, Failed, Outcome
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.result import encode_result, outcome_state
from rustic_ai.llm_queue.tasks.reuse.cached_answer import CachedAnswer, keepable
from rustic_ai.llm_queue.tasks.reuse.names import reuse_name, same_scope
from rustic_ai.llm_queue.tasks.reuse.options import shares_failure

from ..jobs.execution import Execution, Stopped, StopReason
from ..jobs.observers import Observers
from ..jobs.reuse_port import ReuseTicket
from ..jobs.settlement import account_without_answer, is_large
from ..pool.inline_executor import in_thread_if
from .answer_cache import KEPT_FOR_FOLLOWERS, AnswerCache
from .counters import ReuseCounters

logger = logging.getLogger(__name__)


class AnswerReuse:
    """Answers calls from what equal calls brought: from the cache, or from the one that is under way."""

    def __init__(
        self,
        flights: Flights,
        cache: AnswerCache,
        sealer: Sealer,
        observers: Observers,
        counters: ReuseCounters,
    ) -> None:
        self._flights, self._cache, self._sealer, self._observers = flights, cache, sealer, observers
        self._counters = counters

    async def find(self, execution: Execution) -> Outcome | None:
        """The outcome of a job that needs no call of its own; None when it has to make it.

        Raises `Stopped` when the job now follows an equal one, and so is parked, or its lease is lost.
        """
        call, record = execution.call, execution.record
        if call is None or record is None or call.reuse is None:
            return None
        options, name = call.reuse, reuse_name(call, execution.owner, self._sealer)
        ticket = execution.reused = ReuseTicket(name)
        followed = options.single_flight and record.flight == name
        if (options.reads or followed) and (found := await self._kept(execution, ticket, followed=followed)):
            return found
        if options.single_flight:
            await self._join(execution, ticket)
            # The flight before this one may have brought its answer since the first look.
            if options.reads and (found := await self._kept(execution, ticket, followed=False)):
                return found
        if options.reads:
            self._counters.misses += 1
        return None

    async def keep(self, execution: Execution, outcome: Outcome) -> None:
        """Before the job ends: keep its answer, or have its followers share its failure."""
        call, ticket = execution.call, execution.reused
        if call is None or call.reuse is None or not isinstance(ticket, ReuseTicket):
            return
        options = call.reuse
        if isinstance(outcome, Failed) and ticket.leads:
            if _shared(outcome, ticket):
                await self._flights.share_failure(execution.job_id, execution.epoch)
            return
        if not isinstance(outcome, Answered) or outcome.account.cached:
            return
        ttl = timedelta(0)
        if options.writes and keepable(outcome, call.model):
            ttl = timedelta(seconds=options.cache_ttl_s)
        if ticket.leads and await self._flights.has_followers(ticket.name):
            ttl = max(ttl, KEPT_FOR_FOLLOWERS)
        if ttl:
            await self._cache.put(ticket, outcome, options.cache_scope, execution.owner, ttl)

    async def share(self, execution: Execution, outcome: Outcome) -> None:
        """After the job has ended: answer those that follow it. What is missed is found by the reaper."""
        ticket = execution.reused
        if (
            not isinstance(ticket, ReuseTicket)
            or not ticket.leads
            or not isinstance(outcome, Answered | Failed)
        ):
            return
        if isinstance(outcome, Failed) and not _shared(outcome, ticket):
            return
        seen: set[str] = set()
        # One that cannot be ended stays in the list, for the reaper.
        while followers := [
            record for record in await self._flights.followers_of(ticket.name) if record.job.id not in seen
        ]:
            for record in followers:
                seen.add(record.job.id)
                await self._end(record, execution, ticket.name, outcome)

    async def _kept(self, execution: Execution, ticket: ReuseTicket, *, followed: bool) -> Outcome | None:
        assert execution.call is not None
        assert execution.call.reuse is not None
        scope = execution.call.reuse.cache_scope
        kept = await self._cache.get(ticket, scope, execution.owner)
        if kept is None:
            return None
        if followed:
            self._counters.joined += 1
        else:
            self._counters.hits += 1
            await self._cache.used(ticket.name, scope, execution.owner)
        return kept.answered(execution.account(), how="flight" if followed else "hit")

    async def _join(self, execution: Execution, ticket: ReuseTicket) -> None:
        joined = await self._flights.join(execution.job_id, execution.epoch, ticket.name)
        if joined.verdict == "leads":
            self._counters.flights += 1
            ticket.leads, ticket.handovers = True, joined.handovers
            return
        reason = StopReason.PARKED if joined.verdict == "follows" else StopReason.LOST
        execution.stop(reason)
        raise Stopped(reason)

    async def _end(self, record: JobRecord, leader: Execution, name: str, outcome: Answered | Failed) -> None:
        job = record.job
        account = account_without_answer(record, leader.redis_ms).model_copy(update={"worker": leader.worker})
        assert leader.call is not None
        assert leader.call.reuse is not None
        if not same_scope(leader.call.reuse.cache_scope, job.owner, leader.owner):
            logger.error("Job %s follows a flight of another scope and is not answered by it", job.id)
            return
        if isinstance(outcome, Answered):
            ended: Outcome = CachedAnswer.of(outcome).answered(account, how="flight")
        else:
            ended = Failed(account=account, error=outcome.error)
        encode = partial(
            encode_result, ended, job_id=job.id, owner=job.owner, sealer=self._sealer, epoch=record.epoch
        )
        meta = await in_thread_if(is_large(ended), encode)
        done = await self._flights.finish_follower(
            job.id,
            name,
            outcome_state(ended),
            meta,
            dead=isinstance(ended, Failed),
            charge=Charge.of(job.owner, ended),
        )
        if done:
            self._counters.joined += 1
            self._observers.concluded(job.id, record, ended)


def _shared(failed: Failed, ticket: ReuseTicket) -> bool:
    """Whether the followers get this failure, instead of one of them trying again."""
    called = bool(failed.account.attempts)
    return shares_failure(failed.error.kind, called=called, handovers=ticket.handovers)
