from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.ledger.view import ListedJob

from .output import cell

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


def job_table(jobs: Iterable[ListedJob], title: str) -> Table:
    """Jobs for people."""
    table = Table(title=title, title_justify="left")
    for name in _COLUMNS:
        # An id is there to be copied.
        table.add_column(name, overflow="fold", no_wrap=name == "job")
    for listed in jobs:
        table.add_row(*_row(listed))
    return table


def moment(at_ms: int | None) -> str:
    """A time of Redis' clock, in UTC."""
    if at_ms is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"  # beyond any calendar: whoever may write a record may write this


def _row(listed: ListedJob) -> tuple[str, ...]:
    record = listed.record
    if record is None:
        return (cell(listed.job_id), "unreadable", "", "", "", "", "", cell(listed.violation))
    job = record.job
    return (
        cell(listed.job_id),
        record.state.value,
        cell(job.model),
        cell(job.owner),
        moment(record.created_ms),
        str(record.attempts_begun),
        cell(record.worker or ""),
        cell(_why(record)),
    )


def _why(record: JobRecord) -> str:
    """Why it failed, from its last attempt; empty where none has ended."""
    if not record.attempts:
        return ""
    last = record.attempts[-1]
    status = f" ({last.provider_status})" if last.provider_status else ""
    return f"{last.error or last.status}{status}"
