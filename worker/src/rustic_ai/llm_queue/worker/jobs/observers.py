from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Outcome

if TYPE_CHECKING:
    # It imports LiteLLM, and some observers are made before LiteLLM's environment is.
    from .execution import Execution

logger = logging.getLogger(__name__)


class Observer:
    """Is notified of how jobs end on this worker. Called on the event loop, so it may not block.

    Each method does nothing here: an observer overrides those it needs.
    """

    def run_ended(self, execution: Execution) -> None:
        """This worker's run of a job is over; without an outcome the job is not."""

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """This worker ended a job that nobody ran."""

    def avoided(self, verdict: str) -> None:
        """A second run of a job was avoided: the ledger's verdict was `final`, `leased` or `stale`."""


class Observers:
    """All of a worker's observers. What one of them raises is logged, and changes no job."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def run_ended(self, execution: Execution) -> None:
        """Notify of a run that is over, however it ended."""
        self._notify(lambda observer: observer.run_ended(execution))

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """Notify of a job that this worker ended and nobody ran."""
        self._notify(lambda observer: observer.concluded(job_id, record, outcome))

    def avoided(self, verdict: str) -> None:
        """Notify of a second run that was avoided."""
        self._notify(lambda observer: observer.avoided(verdict))

    def _notify(self, news: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                news(observer)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)
