from __future__ import annotations

import re
from typing import Any, ClassVar

from celery import states
from celery.events.state import Task

#: What `wakeup_message` writes in place of a task's arguments.
_ARGUMENTS = re.compile(
    r"model=(?P<model>.*) org=(?P<org>.*) guild=(?P<guild>.*) agent=(?P<agent>.*) ~tokens=(?P<tokens>\d+)",
    re.DOTALL,
)
_OWNER_FIELDS = ("model", "org", "guild", "agent", "estimated_tokens")
#: A job's own failures need no stack: it would show our code and no cause.
_EXPECTED_FAILURE = "JobFailed("


class JobTask(Task):  # type: ignore[misc]  # celery is untyped
    """A job as Celery's events tell of it, with our fields beside Celery's own."""

    model: str | None = None
    org: str | None = None
    guild: str | None = None
    agent: str | None = None
    #: A rough count of the prompt's tokens.
    estimated_tokens: int | None = None
    outcome: str | None = None
    attempts: int | None = None
    #: The models of all attempts, in order.
    models: str | None = None
    cost_usd: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    queue_wait_s: float | None = None
    run_time_s: float | None = None

    OUR_FIELDS = (
        *_OWNER_FIELDS,
        "outcome",
        "attempts",
        "models",
        "cost_usd",
        "prompt_tokens",
        "completion_tokens",
        "queue_wait_s",
        "run_time_s",
    )
    _fields = (*Task._fields, *OUR_FIELDS)

    merge_rules: ClassVar = {
        states.RECEIVED: (*Task.merge_rules[states.RECEIVED], *_OWNER_FIELDS),
    }

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take in one event. What its sender wrote is shown, never trusted."""
        fields = dict(fields or {})
        fields.update(_owner(fields.get("args")))
        fields.update(_account(fields.pop("account", None)))
        if str(fields.get("exception", "")).startswith(_EXPECTED_FAILURE):
            fields["traceback"] = None
        super().event(type_, timestamp, local_received, fields, **kwargs)


def _owner(arguments: object) -> dict[str, Any]:
    match = _ARGUMENTS.fullmatch(arguments) if isinstance(arguments, str) else None
    if match is None:
        return {}
    return {
        **{name: match[name] for name in ("model", "org", "guild", "agent")},
        "estimated_tokens": int(match["tokens"][:12]),
    }


def _account(account: object) -> dict[str, Any]:
    if not isinstance(account, dict):
        return {}
    known = {name: account[name] for name in JobTask.OUR_FIELDS if name in account}
    if isinstance(known.get("models"), list):
        known["models"] = ", ".join(map(str, known["models"]))
    return known
