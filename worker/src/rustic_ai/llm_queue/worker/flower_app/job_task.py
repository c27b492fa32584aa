from __future__ import annotations

import re
from typing import Any, ClassVar

from celery import states
from celery.events.state import Task

#: How `wakeup_message` describes a job in place of a task's arguments: each field behind its label.
_LABELS = {
    "model": "model=",
    "org": " org=",
    "guild": " guild=",
    "agent": " agent=",
    "estimated_tokens": " ~tokens=",
}
#: What stands before them unless the job is a chat completion.
_KIND = re.compile(r"(?:kind=(?P<kind>[a-z]{1,32}) texts=(?P<texts>[0-9]{1,12}) )?", re.ASCII)
#: Anyone who may push a wake-up writes it, and the broker cuts it at 4,000 characters.
_LONGEST_DESCRIPTION = 4_000
_MOST_DIGITS = 12
_OWNER_FIELDS = ("kind", "texts", "model", "org", "guild", "agent", "estimated_tokens")
#: A job's own failures need no stack: it would show our code and no cause.
_EXPECTED_FAILURE = "JobFailed("


class JobTask(Task):  # type: ignore[misc]  # celery is untyped
    """A job as Celery's events describe it, with our fields beside Celery's own."""

    #: None for a completion, the usual kind.
    kind: str | None = None
    #: The number of texts to embed.
    texts: int | None = None
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
    #: `hit` or `flight` when the answer was reused.
    cached: str | None = None
    #: The limit that it waits for, or has waited for longest of late, and for how long.
    limited: str | None = None
    #: The tightest budget that the call passed, and how much of it was used then.
    budget: str | None = None
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
        "cached",
        "limited",
        "budget",
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
        if type_ == "waits":
            self._wait(timestamp or 0, fields.get("limited"))
            return
        if type_ == "started":
            fields["limited"] = None
        fields.update(_owner(fields.get("args")))
        fields.update(_account(fields.pop("account", None)))
        if str(fields.get("exception", "")).startswith(_EXPECTED_FAILURE):
            fields["traceback"] = None
        super().event(type_, timestamp, local_received, fields, **kwargs)

    def _wait(self, timestamp: float, limited: object) -> None:
        # Another worker may have started it since.
        latest: float | None = self.__dict__.get("timestamp")
        if timestamp >= (latest or 0):
            self.__dict__.update(state=states.PENDING, timestamp=timestamp, limited=str(limited))


def _owner(description: object) -> dict[str, Any]:
    if not isinstance(description, str) or len(description) > _LONGEST_DESCRIPTION:
        return {}
    found: dict[str, Any] = {}
    # From its end on, so that a model's name may hold whatever follows it: one pass for each field.
    for name, label in reversed(_LABELS.items()):
        description, label_found, value = description.rpartition(label)
        if not label_found:
            return {}
        found[name] = value
    tokens = found["estimated_tokens"]
    kind = _KIND.fullmatch(description)
    if kind is None or not (tokens.isascii() and tokens.isdecimal()):
        return {}
    return {
        **found,
        "kind": kind["kind"],
        "texts": kind["texts"] and int(kind["texts"]),
        "estimated_tokens": int(tokens[:_MOST_DIGITS]),
    }


def _account(account: object) -> dict[str, Any]:
    if not isinstance(account, dict):
        return {}
    known = {name: account[name] for name in JobTask.OUR_FIELDS if name in account}
    if isinstance(known.get("models"), list):
        known["models"] = ", ".join(map(str, known["models"]))
    return known
