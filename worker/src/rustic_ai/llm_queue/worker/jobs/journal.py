from __future__ import annotations

from collections.abc import Sequence

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger

from ..admission.gate import CallGate, Refused
from .execution import Execution, Stopped, StopReason


class LedgerJournal:
    """Admits every provider call, and puts it on record in the ledger before it is made."""

    __slots__ = ("_execution", "_gates", "_ledger")

    def __init__(self, ledger: Ledger, gates: Sequence[CallGate], execution: Execution) -> None:
        self._ledger, self._gates, self._execution = ledger, gates, execution

    async def admit(self, model: str, ended: Sequence[AttemptRecord]) -> ErrorEnvelope | None:
        """The error of a call that a gate refuses, None for one that may go.

        Raises `Stopped` when a gate had the job parked.
        """
        for gate in self._gates:
            try:
                verdict = await gate.admit(self._execution, model, ended)
            except Refused as refused:
                return refused.envelope
            if verdict == "parked":
                self._stop(StopReason.PARKED)
        return None

    async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
        """Raises `Stopped` when the lease was lost."""
        execution = self._execution
        if not await self._ledger.begin_attempt(execution.job_id, execution.epoch, begun=number, ended=ended):
            self._stop(StopReason.LOST)

    def _stop(self, reason: StopReason) -> None:
        self._execution.stop(reason)
        raise Stopped(reason)
