from __future__ import annotations

from ..contract import ContractViolation
from ..outcome import Account, Cancelled
from ..owner import Owner
from ..privacy.seal import Sealer
from ..result import encode_result
from .ledger import CancelVerdict, Ledger

#: Whose a job is that has no readable record; its result is then sealed for nobody.
_UNKNOWN = Owner(org="unknown", guild="unknown", agent="unknown")


async def cancel_job(
    ledger: Ledger,
    sealer: Sealer,
    job_id: str,
    *,
    by: str,
    owner: Owner | None = None,
    waiting_only: bool = False,
) -> CancelVerdict:
    """Cancel a job, waiting or running.

    Args:
        by: who cancels it; the job's caller is told.
        owner: whose job it is, looked up in its record when None.
        waiting_only: leave it alone if it runs.

    Raises redis-py's `RedisError`.
    """
    owner = owner or await _owner(ledger, job_id)
    outcome = Cancelled(account=Account(), by=by)
    meta = encode_result(outcome, job_id=job_id, owner=owner, sealer=sealer)
    return await ledger.cancel(job_id, by=by, meta=meta, waiting_only=waiting_only)


async def _owner(ledger: Ledger, job_id: str) -> Owner:
    try:
        record = await ledger.record(job_id)
    except ContractViolation:
        return _UNKNOWN
    return record.job.owner if record else _UNKNOWN
