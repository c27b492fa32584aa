from __future__ import annotations

from typing import Any

from rustic_ai.llm_queue.tasks.outcome import Cancelled, Expired, Failed

from ..exceptions import BY_KIND, JobCancelled, JobTimeout, QueueError


def to_exception(outcome: Failed | Cancelled | Expired, *, job_id: str, model: str) -> QueueError:
    """The exception for a job that ended without an answer.

    Args:
        model: the model that was asked for.
    """
    account = outcome.account
    last = account.attempts[-1].model if account.attempts else model
    about: dict[str, Any] = {
        "job_id": job_id,
        "model": last,
        "attempts": account.attempts,
        "account": account,
    }
    match outcome:
        case Failed(error=error):
            left_out = {"message", "budget"} if error.model else {"message", "budget", "model"}
            facts = {**error.model_dump(exclude=left_out), "budget": error.budget}
            return BY_KIND[error.kind](error.message, **{**about, **facts})
        case Cancelled(by=by):
            return JobCancelled(f"The job was cancelled by {by}.", **about)
        case Expired():
            return JobTimeout(**about)
