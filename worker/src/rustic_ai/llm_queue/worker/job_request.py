from __future__ import annotations

from typing import Any

from celery.worker.request import Request

_LAST_EVENTS = frozenset({"task-succeeded", "task-failed", "task-revoked"})


class JobRequest(Request):  # type: ignore[misc]  # celery is untyped
    """A wake-up as Celery's worker holds it, whose last event also says what the job took."""

    def send_event(self, type: str, **fields: Any) -> None:
        if type in _LAST_EVENTS and (account := self.task.accounts.take(self.id)) is not None:
            fields["account"] = account
        super().send_event(type, **fields)
