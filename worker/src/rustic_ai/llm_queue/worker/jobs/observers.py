from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Outcome

from .job_run import JobRun

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Learns how jobs end on this worker. Called on the event loop, so it may not block."""

    def run_ended(self, run: JobRun) -> None:
        """This worker's run of a job is over; without an outcome the job is not."""

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """This worker ended a job that nobody ran."""

    def avoided(self, verdict: str) -> None:
        """A second run of a job was avoided: the ledger said `final`, `leased` or `stale`."""


class Observers:
    """All of a worker's observers. What one of them raises is logged, and changes no job."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def run_ended(self, run: JobRun) -> None:
        """Tell of a run that is over, however that came."""
        self._tell(lambda observer: observer.run_ended(run))

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """Tell of a job that this worker ended and nobody ran."""
        self._tell(lambda observer: observer.concluded(job_id, record, outcome))

    def avoided(self, verdict: str) -> None:
        """Tell of a second run that was avoided."""
        self._tell(lambda observer: observer.avoided(verdict))

    def _tell(self, news: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                news(observer)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)
