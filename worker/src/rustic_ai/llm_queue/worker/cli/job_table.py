from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType

from rustic_ai.llm_queue.tasks.job import JobRecord, JobState
from rustic_ai.llm_queue.tasks.ledger.views.job_index import ListedJob

from .listing import listing

_COLUMNS = ("job", "state", "model", "org/guild/agent", "submitted", "attempts", "worker", "why")


def job_json(listed: ListedJob) -> dict[str, Any]:
    """A job for programs: all but what it asks and what it was answered."""
    if listed.record is None:
        return {"id": listed.job_id, "state": None, "why": listed.violation}
    record = listed.record
    progress = record.model_dump(mode="json", exclude={"job", "attempts"})
    job = record.job.model_dump(mode="json", exclude={"request", "fingerprints"})
    attempts = [one.model_dump(mode="json", exclude_none=True) for one in record.attempts]
    return {**job, **progress, "attempts": attempts, "why": _why(record)}


def job_list(jobs: Sequence[ListedJob], title: str) -> RenderableType:
    """Jobs for people."""
    return listing(title, _COLUMNS, [_row(listed) for listed in jobs])


def moment(at_ms: int | None) -> str:
    """A time of Redis' clock, in UTC."""
    if at_ms is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"  # beyond any calendar: any user that may write a record may write this


def _row(listed: ListedJob) -> tuple[str, ...]:
    record = listed.record
    if record is None:
        return (listed.job_id, "unreadable", "", "", "", "", "", listed.violation or "")
    job = record.job
    return (
        listed.job_id,
        record.state.value,
        job.model,
        str(job.owner),
        moment(record.created_ms),
        str(record.attempts_begun),
        record.worker or "",
        _why(record),
    )


def _why(record: JobRecord) -> str:
    """What it waits for, else why it failed, from its last attempt; empty where none has ended."""
    if record.waits_for and record.state is JobState.QUEUED:
        return f"waits for {record.limit_name}"
    if not record.attempts:
        return ""
    last = record.attempts[-1]
    status = f" ({last.provider_status})" if last.provider_status else ""
    return f"{last.error or last.status}{status}"
