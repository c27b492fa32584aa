from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger.call_use import CallUse
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.usage import Usage

from ..admission.cooldowns import Cooldowns
from ..admission.gate import CallGate, NextCall, Refused, Verdict
from ..provider.targets.credentials import Target
from .execution import Execution, Stopped, StopReason
from .intake import Intake
from .take_back import TakeBack

_STOPS: Mapping[Verdict, StopReason] = {
    "parked": StopReason.PARKED,
    "lost": StopReason.LOST,
    "cancelled": StopReason.CANCELLED,
}


class LedgerJournal:
    """Admits every provider call, and puts it on record in the ledger before it is made."""

    __slots__ = ("_cooldowns", "_execution", "_gates", "_intake", "_ledger", "_take_back")

    def __init__(
        self,
        ledger: Ledger,
        gates: Sequence[CallGate],
        cooldowns: Cooldowns,
        intake: Intake,
        execution: Execution,
        take_back: TakeBack,
    ) -> None:
        self._ledger, self._gates, self._cooldowns = ledger, gates, cooldowns
        self._intake, self._execution, self._take_back = intake, execution, take_back

    async def admit(self, call: NextCall) -> Refused | None:
        """The refusal of a call that a gate does not let through, None for one that may go.

        Raises `Stopped` when a gate had the job parked, or found that it was cancelled.
        """
        call = replace(call, used=self._used())
        for gate in self._gates:
            try:
                verdict = await gate.admit(self._execution, call)
                if verdict == "lost" and await self._take_back(self._execution):
                    verdict = await gate.admit(self._execution, call)
            except Refused as refused:
                return refused
            if verdict != "admitted":
                self._stop(_STOPS[verdict])
        self._intake.discard(self._execution)
        return None

    async def note_answer(self, target: Target, usage: Usage, headers: Mapping[str, str]) -> None:
        """Let the gates learn from an answered call."""
        if target.foreign:
            # What a tenant's own server reports teaches nothing about calls of others.
            return
        for gate in self._gates:
            await gate.note_answer(self._execution, target, usage, headers)

    async def note_refusal(self, target: Target, failure: ErrorEnvelope) -> bool:
        """Close what a provider has refused to all workers. False where that is nothing but this call."""
        return await self._cooldowns.note(target, failure)

    async def pause(self, delay_s: float, begun: int, ended: Sequence[AttemptRecord]) -> None:
        """Leave the job with the ledger until its next attempt is due: always raises `Stopped`."""
        execution, used = self._execution, self._used()
        verdict = await self._ledger.limits.pause(
            execution.job_id,
            execution.epoch,
            timedelta(seconds=delay_s),
            begun=begun,
            ended=ended,
            used=CallUse.of_usage(used),
        )
        execution.waits_for = "its next attempt"
        self._stop(StopReason.CANCELLED if verdict == "cancelled" else StopReason.PARKED)

    async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
        """Raises `Stopped` when the lease was lost."""
        if not await self._recorded(number, ended):
            held = await self._take_back(self._execution)
            if not (held and await self._recorded(number, ended)):
                self._stop(StopReason.LOST)

    async def _recorded(self, number: int, ended: Sequence[AttemptRecord]) -> bool:
        execution = self._execution
        return await self._ledger.begin_attempt(execution.job_id, execution.epoch, begun=number, ended=ended)

    def _used(self) -> Usage | None:
        """What the latest call has used without an answer, as limits count it.

        None for a tenant's own server, whose word gives no tokens back and takes none.
        """
        record, log = self._execution.record, self._execution.attempts
        if record is None or (log.target is not None and log.target.foreign):
            return None
        return log.spent(record.job.estimated_tokens)

    def _stop(self, reason: StopReason) -> NoReturn:
        self._execution.stop(reason)
        raise Stopped(reason)
