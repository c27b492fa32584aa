from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rustic_ai.llm_queue.tasks.job import Job, JobRecord, JobState
from rustic_ai.llm_queue.tasks.outcome import Account, Cancelled, Expired, Outcome
from rustic_ai.llm_queue.tasks.result import outcome_state

from ..streams.order import Chunks, Restarted
from .reply import WORKER, Reply

#: About as long as a worker takes to find a job whose deadline has passed.
_FOUND_EXPIRED_MS = 500


class MemoryJob:
    """One job's stay in memory. Lives on the engine's event loop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.created_ms = _now_ms()
        #: The events of its stream so far.
        self.events: list[Chunks | Restarted] = []
        #: Called once, with how it ended.
        self.on_end: Callable[[Outcome], None] | None = None
        self._reply: Reply | None = None
        self._outcome: Outcome | None = None
        self._ended_ms: int | None = None
        self._changed = asyncio.Event()

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, None while it has not."""
        if self._outcome is None and _now_ms() > self._deadline_ms + _FOUND_EXPIRED_MS:
            self.end(Expired(account=Account()))
        return self._outcome

    @property
    def state(self) -> JobState:
        if self.outcome is not None:
            return outcome_state(self.outcome)
        return JobState.RUNNING if self._reply and self._reply.outcome else JobState.QUEUED

    def play(self, reply: Reply) -> None:
        """Carry out its script."""
        self._reply = reply
        if reply.hold_after is None:
            self._say(reply.events)
            self.end(reply.outcome)
        else:
            self._say(reply.events[: reply.hold_after])

    def release(self) -> None:
        """Let what is held go on."""
        if self._reply is not None and self._reply.hold_after is not None and self.outcome is None:
            self._say(self._reply.events[len(self.events) :])
            self.end(self._reply.outcome)

    def cancel(self, by: str) -> bool:
        """False when it had ended before."""
        if self.outcome is not None:
            return False
        self.end(Cancelled(account=Account(), by=by))
        return True

    async def wait_beyond(self, seen: int) -> None:
        """Wait until its stream has more events than those seen, or it has ended."""
        while len(self.events) <= seen and self.outcome is None:
            await self._changed.wait()

    async def ending(self) -> Outcome:
        """Wait for its end."""
        while self.outcome is None:
            await self._changed.wait()
        assert self._outcome is not None
        return self._outcome

    def record(self) -> JobRecord:
        """The record that the ledger would hold."""
        outcome, taken = self.outcome, self.state is not JobState.QUEUED
        return JobRecord(
            job=self.job,
            state=self.state,
            created_ms=self.created_ms,
            deadline_ms=self._deadline_ms,
            epoch=int(taken),
            started_ms=self.created_ms if taken else None,
            claimed_ms=self.created_ms if taken else None,
            ended_ms=self._ended_ms,
            worker=WORKER if taken else None,
            attempts_begun=len(outcome.account.attempts) if outcome else int(taken),
            attempts=outcome.account.attempts if outcome else (),
        )

    @property
    def _deadline_ms(self) -> int:
        return self.created_ms + self.job.timeout_ms

    def _say(self, events: tuple[Chunks | Restarted, ...]) -> None:
        if self.job.stream:
            self.events += events
            self._tell()

    def end(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._outcome, self._ended_ms = outcome, _now_ms()
            self._tell()
            if self.on_end is not None:
                self.on_end(outcome)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
