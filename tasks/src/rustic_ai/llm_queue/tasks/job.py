from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, ValidationError

from .attempt import AttemptRecord
from .call import CALLS, Call, CallKind
from .contract import (
    LARGEST,
    WIRE_VERSION,
    Contract,
    ContractViolation,
    Seconds,
    Whole,
    check_version,
    field_names,
)
from .names import EPOCHS_OF_A_GENERATION, MOST_GENERATIONS
from .owner import Owner
from .privacy.seal import Purpose, Sealer

OnWorkerLoss = Literal["retry", "fail"]
#: The four steps Celery keeps apart on Redis: 0 goes first.
Priority = Literal[0, 3, 6, 9]
PRIORITIES: tuple[Priority, ...] = (0, 3, 6, 9)
PriorityName = Literal["interactive", "normal", "low", "batch"]
#: What the steps are called.
PRIORITY_NAMES: dict[PriorityName, Priority] = {"interactive": 0, "normal": 3, "low": 6, "batch": 9}
#: Of a call that names none: some calls can be more urgent than it.
NORMAL: Priority = PRIORITY_NAMES["normal"]
#: Far more provider calls than any job's retries, fallbacks and reruns add up to.
MAX_ATTEMPTS = 10_000


def priority_of(value: object) -> object:
    """The number of a priority's name; what is none of the names comes back as it is."""
    return next((number for name, number in PRIORITY_NAMES.items() if name == value), value)


class JobState(StrEnum):
    """Where a job is in its life. Everything after `RUNNING` is final."""

    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Job(Contract):
    """One call of a model in the queue, as its submitter writes it.

    All but `request` is readable in Redis, so it names the model and the owner and no more.
    """

    id: str
    owner: Owner
    kind: CallKind = CallKind.CHAT
    model: str
    queue: str
    #: A record that names none is in the list that goes first; submitters always name one.
    priority: Priority = 0
    timeout_ms: int = Field(ge=1, le=LARGEST)
    on_worker_loss: OnWorkerLoss = "retry"
    stream: bool = False
    stream_ttl_s: Seconds | None = None
    #: A rough count of the input's tokens (4 characters each), for operators' eyes.
    estimated_tokens: Whole = 0
    #: The number of texts to embed; 0 for a completion.
    text_count: Whole = 0
    #: How often it was submitted again because Redis had lost it: to a restart without its file, or
    #: to a failover. Some worker may have run it before.
    generation: int = Field(default=0, ge=0, le=MOST_GENERATIONS)
    #: W3C trace context of the caller, empty when there is none.
    traceparent: str = ""
    #: A `Call` of this kind, sealed.
    request: str = Field(repr=False)
    #: `Sealer.fingerprints` of the request, comma-separated: what "the same request" means
    #: to an idempotency key and to a submit that is sent again.
    fingerprints: str

    def forget_request(self) -> None:
        """Drop the sealed text: once it is opened, the request would be in memory twice."""
        object.__setattr__(self, "request", "")

    def to_hash(self) -> dict[str, str]:
        """The record's fields as Redis keeps them."""
        return {
            "v": str(WIRE_VERSION),
            "id": self.id,
            "owner": self.owner.model_dump_json(),
            "model": self.model,
            "queue": self.queue,
            "priority": str(self.priority),
            "timeout_ms": str(self.timeout_ms),
            "on_worker_loss": self.on_worker_loss,
            "stream": str(int(self.stream)),
            "stream_ttl_s": "" if self.stream_ttl_s is None else str(self.stream_ttl_s),
            "estimated_tokens": str(self.estimated_tokens),
            "traceparent": self.traceparent,
            "request": self.request,
            "fingerprints": self.fingerprints,
            **self._other_kind(),
            **self._later_generation(),
        }

    def _other_kind(self) -> dict[str, str]:
        """A completion, the usual kind, does without: a record is kept for every job."""
        if self.kind is CallKind.CHAT:
            return {}
        return {"kind": self.kind.value, "text_count": str(self.text_count)}

    def _later_generation(self) -> dict[str, str]:
        """What keeps a worker that still runs the lost job from being taken for its new holder."""
        if not self.generation:
            return {}
        epochs = str(self.generation * EPOCHS_OF_A_GENERATION)
        return {"generation": str(self.generation), "epoch": epochs, "handbacks": epochs}


class JobRecord(Contract):
    """A job as the ledger holds it: what was submitted, and how far it has come."""

    job: Job
    state: JobState
    created_ms: Whole
    deadline_ms: Whole
    #: Number of the current claim, 0 before the first.
    epoch: Whole = 0
    #: The first claim, and the current one.
    started_ms: Whole | None = None
    claimed_ms: Whole | None = None
    ended_ms: Whole | None = None
    worker: str | None = None
    #: Provider calls begun, the current one included. A worker counts up to it.
    attempts_begun: int = Field(default=0, ge=0, le=MAX_ATTEMPTS)
    #: Attempts whose end is known.
    attempts: tuple[AttemptRecord, ...] = ()
    cancel_requested: bool = False
    #: The party that cancelled it, as `Cancelled.by`.
    cancel_by: str | None = Field(default=None, max_length=64)
    #: Claims given back by a worker that shut down, which do not count as losses.
    handbacks: Whole = 0
    #: Where its end is published beside its own channel, and the process that waits for it elsewhere: see
    #: `Ledger.submit`.
    reply_channel: str | None = Field(default=None, max_length=256, repr=False)
    caller: str | None = Field(default=None, max_length=256, repr=False)
    #: The flight of equal calls that it leads or follows.
    flight: str | None = None
    #: The limit it waits for, as `name:bucket`; how many jobs waited there before it when it came, and
    #: about when its turn is, 0 where only other calls' ends decide that.
    waits_for: str | None = None
    ahead: Whole = 0
    starts_at_ms: Whole = 0
    #: Its waits for limits so far, but for one that goes on, and the limit of the latest.
    limited_ms: Whole = 0
    limited_by: str | None = None

    @property
    def limit_name(self) -> str | None:
        """The limit it has waited for last, as the policy file names it."""
        return self.limited_by.partition(":")[0] if self.limited_by else None

    @property
    def ending_epoch(self) -> int:
        """The first claim that can end the job from here on: the current one, or a waiting job's next."""
        return self.epoch + (self.state is JobState.QUEUED)

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> Self:
        """Raises `NewerVersion`, or `ContractViolation` naming the fields that are wrong."""
        check_version(fields.get("v"), what="job record")
        try:
            record = cls.model_validate(_nest(fields))
        except (ValidationError, ValueError, RecursionError) as error:
            raise ContractViolation(f"job record does not validate: {_names(error)}") from None
        for model in (record, record.job, record.job.owner):
            # A worker keeps thousands of them.
            model.share_field_names()
        return record


_PROGRESS = [
    "state",
    "created_ms",
    "deadline_ms",
    "epoch",
    "started_ms",
    "claimed_ms",
    "ended_ms",
    "worker",
    "attempts_begun",
    "handbacks",
    "reply_channel",
    "caller",
    "flight",
    "waits_for",
    "ahead",
    "starts_at_ms",
    "limited_ms",
    "limited_by",
]


def _nest(fields: Mapping[str, str]) -> dict[str, object]:
    job: dict[str, object] = {
        name: fields[name] for name in Job.model_fields if name in fields and fields[name] != ""
    }
    job["owner"] = json.loads(fields.get("owner", "null"))
    if (priority := fields.get("priority", "")) in map(str, PRIORITIES):
        job["priority"] = int(priority)
    # An answered job's request is dropped from its record to free the memory.
    job.setdefault("request", "")
    record: dict[str, object] = {name: fields[name] for name in _PROGRESS if name in fields}
    record["attempts"] = json.loads(fields.get("attempts") or "[]")
    record["cancel_requested"] = bool(fields.get("cancel_by"))
    record["cancel_by"] = fields.get("cancel_by") or None
    record["job"] = job
    return record


def _names(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return field_names(error)
    return "not JSON where JSON belongs"


def check_job_id(job_id: object) -> str:
    """Return `job_id` in its canonical form. Raises `ValueError` unless it is a UUID's text."""
    try:
        return str(uuid.UUID(job_id)) if isinstance(job_id, str) else _refuse(job_id)
    except ValueError:
        return _refuse(job_id)


def _refuse(job_id: object) -> str:
    raise ValueError(f"job id {str(job_id)[:64]!r} is not a UUID; use the id that submit returned")


def seal_call(call: Call, sealer: Sealer, *, job_id: str, owner: Owner) -> tuple[str, str]:
    """The sealed request, and the fingerprints it is known by."""
    body = call.model_dump_json(exclude_defaults=True)
    sealed = sealer.seal(body, purpose=Purpose.REQUEST, job_id=job_id, owner=owner)
    return sealed, ",".join(sealer.fingerprints(f"{owner}\n{body}"))


def open_call(job: Job, sealer: Sealer, *, max_age: timedelta | None = None) -> Call:
    """Raises `ContractViolation` when the request does not open, is older than that, or does not validate."""
    body = sealer.open(job.request, purpose=Purpose.REQUEST, job_id=job.id, owner=job.owner, max_age=max_age)
    try:
        return CALLS[job.kind].model_validate_json(body)
    except ValidationError as error:
        raise ContractViolation(f"request does not validate: {_names(error)}") from None
