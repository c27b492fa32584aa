from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Answered, Failed, Outcome

from ..jobs.observers import Observer

if TYPE_CHECKING:
    from ..jobs.execution import Execution

logger = logging.getLogger(__name__)

#: The attribute of a log record that holds a job's facts, for formats that can tell them apart.
FACTS = "job"


class JobLog(Observer):
    """Writes one line a job at INFO, when it ends."""

    def run_ended(self, execution: Execution) -> None:
        if execution.outcome is not None:
            _write(execution.job_id, execution.record, execution.outcome)

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        _write(job_id, record, outcome)


def model_of(record: JobRecord | None, outcome: Outcome) -> str | None:
    """The model that answered, or was asked last."""
    if isinstance(outcome, Answered):
        return outcome.model
    if outcome.account.attempts:
        return outcome.account.attempts[-1].model
    return record.job.model if record else None


def facts(job_id: str, record: JobRecord | None, outcome: Outcome) -> dict[str, Any]:
    """What a job's line holds: nothing of its prompt, its answer or an error's message."""
    owner, account = (record.job.owner if record else None), outcome.account
    return {
        "id": job_id,
        "org": owner and owner.org,
        "guild": owner and owner.guild,
        "agent": owner and owner.agent,
        "kind": record and record.job.kind.value,
        "model": model_of(record, outcome),
        "outcome": outcome.kind,
        "error": outcome.error.kind.value if isinstance(outcome, Failed) else None,
        "run_time_s": round(account.run_time_s, 3),
        "queue_wait_s": round(account.queue_wait_s, 3),
        "attempts": len(account.attempts),
        "prompt_tokens": account.prompt_tokens,
        "completion_tokens": account.completion_tokens,
        "cost_usd": account.cost_usd,
        "cached": account.cached,
        "cached_texts": account.cached_texts,
    }


def _write(job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
    if logger.isEnabledFor(logging.INFO):
        told = facts(job_id, record, outcome)
        logger.info("%s", _sentence(told), extra={FACTS: told})


def _sentence(told: dict[str, Any]) -> str:
    owner = f"{told['org']}/{told['guild']}/{told['agent']}" if told["org"] else "nobody known"
    ending = f"{told['outcome']} ({told['error']})" if told["error"] else told["outcome"]
    tokens = f"{_count(told['prompt_tokens'])}+{_count(told['completion_tokens'])} tokens"
    times = f"{told['run_time_s']:.3f} s after {told['queue_wait_s']:.3f} s of waiting"
    line = (
        f"Job {told['id']} of {owner} {ending}: {told['model']}, {times}, "
        f"attempts {told['attempts']}, {tokens}, {_price(told['cost_usd'])}"
        f"{f', cached ({told["cached"]})' if told['cached'] else ''}"
        f"{f', {told["cached_texts"]} texts cached' if told['cached_texts'] else ''}"
    )
    # Ids are the tenants' own words: one that holds a line end must not forge a line.
    return line.encode("unicode_escape").decode() if not line.isprintable() else line


def _price(cost_usd: float | None) -> str:
    return "no price" if cost_usd is None else f"{cost_usd:.12f}".rstrip("0").rstrip(".") + " USD"


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)
