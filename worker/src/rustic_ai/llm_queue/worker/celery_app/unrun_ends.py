from __future__ import annotations

import logging
from typing import Any

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Answered, Cancelled, Failed, Outcome

from ..jobs.observers import Observer
from ..telemetry.job_accounts import account_view

logger = logging.getLogger(__name__)


class UnrunEnds(Observer):
    """Reports to Celery's monitors how jobs ended that a worker had begun and that none was running any more.

    Those that follow an equal call, or wait for a limit: Celery is done with them when they begin to wait.
    """

    def __init__(self, worker: Any) -> None:
        """Args:
        worker: Celery's, whose main thread sends the events.
        """
        self._worker = worker

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """Have its last event sent; a job that was never begun is none that monitors know."""
        hub = getattr(getattr(self._worker, "consumer", None), "hub", None)
        if hub is not None and record is not None and record.epoch:
            hub.call_soon(self._send, job_id, outcome)

    def _send(self, job_id: str, outcome: Outcome) -> None:
        account = account_view(outcome)
        kind, fields = _event(outcome, account)
        try:
            dispatcher = self._worker.consumer.event_dispatcher
            if dispatcher is not None and dispatcher.enabled:
                dispatcher.send(kind, uuid=job_id, account=account, **fields)
        except Exception as error:
            # Between two connections to the broker, for one.
            logger.warning(
                "The end of job %s did not reach Celery's monitors: %s", job_id, type(error).__name__
            )


def _event(outcome: Outcome, account: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    match outcome:
        case Answered():
            return "task-succeeded", {"result": str(account), "runtime": 0.0}
        case Cancelled():
            return "task-revoked", {"terminated": False, "signum": None, "expired": False}
    kind = outcome.error.kind.value if isinstance(outcome, Failed) else outcome.kind
    return "task-failed", {"exception": f"JobFailed({kind!r})", "traceback": None}
