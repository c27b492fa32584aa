from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rustic_ai.llm_queue.tasks.outcome import Outcome

from ..jobs.observers import Observer

if TYPE_CHECKING:
    from ..jobs.execution import Execution

#: Jobs of which Celery may never report the end are forgotten beyond this.
_MOST = 10_000


class JobAccounts(Observer):
    """What the jobs that ended here took, kept until Celery reports their end.

    It observes on the event loop; `take` is for the main thread.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, dict[str, Any]] = {}
        self._waits: dict[str, str] = {}

    def run_ended(self, execution: Execution) -> None:
        """Keep what the run took, if the job ended with it, or what the job waits for in no worker."""
        if execution.outcome is not None:
            _keep(self._accounts, execution.job_id, account_view(execution.outcome))
        elif execution.waits_for is not None:
            _keep(self._waits, execution.job_id, execution.waits_for)

    def take(self, job_id: str) -> dict[str, Any] | None:
        """What the job took; None when it is not known, or was taken before."""
        return self._accounts.pop(job_id, None)

    def take_wait(self, job_id: str) -> str | None:
        """What the job waits for since its run here; None when it does not, or it was taken before."""
        return self._waits.pop(job_id, None)


def _keep[T](kept: dict[str, T], job_id: str, value: T) -> None:
    if len(kept) >= _MOST:
        kept.pop(next(iter(kept)))
    kept[job_id] = value


def account_view(outcome: Outcome) -> dict[str, Any]:
    """What Celery's events, and so Flower, see of a job's end: numbers and names, no text of the caller's."""
    account = outcome.account
    return {
        "outcome": outcome.kind,
        "attempts": len(account.attempts),
        "models": [attempt.model for attempt in account.attempts],
        "cost_usd": account.cost_usd,
        "cached": account.cached,
        "limited": account.limited_by and f"{account.limited_by} {account.limited_s:.1f} s",
        "budget": account.budget and f"{account.budget.name} {account.budget.used:.0%}",
        "prompt_tokens": account.prompt_tokens,
        "completion_tokens": account.completion_tokens,
        "queue_wait_s": round(account.queue_wait_s, 3),
        "run_time_s": round(account.run_time_s, 3),
    }
