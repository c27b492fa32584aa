from __future__ import annotations

from typing import Any

from celery.utils.functional import noop
from celery.worker.request import Request

_LAST_EVENTS = frozenset({"task-succeeded", "task-failed", "task-revoked"})


class WakeupRequest(Request):  # type: ignore[misc]  # celery is untyped
    """A wake-up as Celery's worker holds it, whose last event also says what the job took, or waits for."""

    def acknowledge(self) -> None:
        super().acknowledge()
        # There is nothing left to say to the broker, for as long as the job may run.
        self._message = None
        self._on_ack = self._on_reject = noop

    def send_event(self, type: str, **fields: Any) -> None:
        if type in _LAST_EVENTS and (account := self._take_account()) is not None:
            fields["account"] = account
        super().send_event(type, **fields)

    def on_failure(self, *args: Any, **options: Any) -> Any:
        result = super().on_failure(*args, **options)
        if (limit := self.task.accounts.take_wait(self.id)) is not None:
            super().send_event("task-waits", limited=f"waits for {limit}")
        # Celery announces a terminated job at once, before it is known what the job has taken.
        if (account := self._take_account()) is not None:
            fields = {"terminated": True, "signum": None, "expired": False}
            super().send_event("task-revoked", account=account, **fields)
        return result

    def _take_account(self) -> dict[str, Any] | None:
        account: dict[str, Any] | None = self.task.accounts.take(self.id)
        return account
