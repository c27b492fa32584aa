from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .contract import WIRE_VERSION, ContractViolation, Whole, check_version, field_names
from .errors import JobFailed
from .job import JobState
from .outcome import Account, Answered, Cancelled, Expired, Failed, Outcome
from .owner import Owner
from .privacy.seal import Purpose, Sealer

#: Celery's own words for how a task ended, as `AsyncResult.state` and Flower read them.
_CELERY_STATES = {
    "answered": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "REVOKED",
    "expired": "FAILURE",
}


def outcome_state(outcome: Outcome) -> JobState:
    """The final state a job with this outcome is in."""
    return JobState(outcome.kind)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StoredResult:
    """What `sealed` holds: how the job ended, and which claim of it."""

    #: The claim that ended the job; 0 where its writer did not know, as one that cancels a job.
    epoch: Whole
    outcome: Outcome


_STORED: TypeAdapter[StoredResult] = TypeAdapter(StoredResult)


def encode_result(outcome: Outcome, *, job_id: str, owner: Owner, sealer: Sealer, epoch: int = 0) -> str:
    """The outcome as a Celery result, so that `AsyncResult(job_id)` and Flower understand it.

    Celery reads how the job ended and what it cost. The outcome itself, with the answer or the provider's
    error message, is in `sealed`.

    Args:
        epoch: the claim that ended the job; 0 where it is not known.
    """
    meta: dict[str, Any] = {
        "status": _CELERY_STATES[outcome.kind],
        "result": _celery_view(outcome),
        "traceback": None,
        "children": [],
        "date_done": datetime.now(UTC).isoformat(),
        "task_id": job_id,
        "v": WIRE_VERSION,
        "sealed": sealer.seal(
            _STORED.dump_json(StoredResult(epoch=epoch, outcome=outcome)).decode(),
            purpose=Purpose.RESULT,
            job_id=job_id,
            owner=owner,
        ),
    }
    return json.dumps(meta, separators=(",", ":"))


def decode_result(meta: str, *, job_id: str, owner: Owner, sealer: Sealer) -> StoredResult:
    """Raises `ContractViolation`: `SealError` when it does not open, `NewerVersion` when it is one."""
    try:
        fields = json.loads(meta)
        version, sealed = fields["v"], str(fields["sealed"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ContractViolation("the stored result is not one of this queue's") from None
    check_version(version, what="result")
    body = sealer.open(sealed, purpose=Purpose.RESULT, job_id=job_id, owner=owner)
    try:
        return _STORED.validate_json(body)
    except ValidationError as error:
        raise ContractViolation(f"the stored result does not validate: {field_names(error)}") from None


def _celery_view(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Answered(account=account, model=model):
            return {"model": model, **cost_view(account)}
        case Failed(error=error):
            message = [error.kind.value]
        case Expired():
            message = ["expired"]
        case Cancelled(by=by):
            return {"exc_type": "TaskRevokedError", "exc_message": [f"cancelled by {by}"],
                    "exc_module": "celery.exceptions"}  # fmt: skip
    return {"exc_type": JobFailed.__name__, "exc_message": message, "exc_module": JobFailed.__module__}


def cost_view(account: Account) -> dict[str, Any]:
    """What an operator may see of an answer: tokens and cost."""
    names = {"cost_usd", "prompt_tokens", "completion_tokens"}
    return account.model_dump(include=names, exclude_none=True)
