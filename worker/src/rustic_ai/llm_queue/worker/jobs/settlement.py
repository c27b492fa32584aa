from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.json_weight import weighs_more
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import FinishVerdict, Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled, Expired, Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.result import encode_result, outcome_state

from ..pool.inline_executor import in_thread_if
from .observers import Observers

logger = get_logger(__name__)

#: Nobody is known to own a record that does not even name its owner.
UNKNOWN_OWNER = Owner(org="unknown", guild="unknown", agent="unknown")
#: A caller's clock starts before the ledger's: it gives up so much earlier, or by this part of its timeout.
_LEAD_MS, _LEAD_PART = 1_000, 10


#: Characters and values of an answer that is written down, and sealed, in a thread.
_LARGE = 64 * 1024


def is_large(outcome: Outcome) -> bool:
    """Whether writing it down takes too long for the event loop, where all other jobs wait."""
    return isinstance(outcome, Answered) and weighs_more(outcome.response, _LARGE)


class Settlement:
    """Writes down how jobs ended."""

    def __init__(self, ledger: Ledger, sealer: Sealer, observers: Observers) -> None:
        self._ledger, self._sealer, self._observers = ledger, sealer, observers

    async def finish(
        self,
        job_id: str,
        owner: Owner,
        epoch: int,
        outcome: Outcome,
        attempts: Iterable[AttemptRecord],
        *,
        own_endpoint: bool = False,
        cached_reads_count: bool = True,
    ) -> tuple[FinishVerdict, Outcome]:
        """End a job that this worker holds at `epoch`.

        Args:
            own_endpoint: what it took is the word of a server that the tenant named, and is booked apart.
            cached_reads_count: its provider's limits count the prompt's tokens that were in its cache.

        Returns the outcome that was written: a worker's fault where the given one has no written form.
        """
        encode = partial(encode_result, job_id=job_id, owner=owner, sealer=self._sealer, epoch=epoch)
        try:
            meta = await in_thread_if(is_large(outcome), partial(encode, outcome))
        except Exception as error:
            logger.exception("How job %s ended cannot be written down", job_id)
            outcome = Failed(account=_plain_account(outcome), error=worker_fault(error))
            meta = encode(outcome)
        dead = isinstance(outcome, Failed)
        charge = Charge.of(owner, outcome)
        if charge is not None and own_endpoint:
            charge = charge.told_by_the_tenant()
        verdict = await self._ledger.finish(
            job_id,
            epoch,
            outcome_state(outcome),
            meta,
            attempts=attempts,
            dead=dead,
            charge=charge,
            uncounted_tokens=0 if cached_reads_count else outcome.account.cached_tokens or 0,
        )
        return verdict, outcome

    async def conclude(self, job_id: str, epoch: int, record: JobRecord | None, outcome: Outcome) -> bool:
        """End a job that nobody holds. False when it meanwhile is another's, or has ended."""
        owner = record.job.owner if record else UNKNOWN_OWNER
        meta = encode_result(outcome, job_id=job_id, owner=owner, sealer=self._sealer, epoch=epoch)
        dead = isinstance(outcome, Failed)
        ended = await self._ledger.conclude(job_id, epoch, outcome_state(outcome), meta, dead=dead)
        if ended:
            self._observers.concluded(job_id, record, outcome)
        return ended

    def report(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        """Notify the observers of a job that has ended without a worker."""
        self._observers.concluded(job_id, record, outcome)


def expired(record: JobRecord | None) -> Expired:
    """The outcome of a job whose deadline passed while it waited, or while its worker was lost."""
    return Expired(account=account_without_answer(record))


def cancelled(record: JobRecord | None, by: str) -> Cancelled:
    """The outcome of a job that was cancelled while no worker held it."""
    return Cancelled(account=account_without_answer(record), by=by)


def gave_up(record: JobRecord | None, at_ms: float) -> bool:
    """Whether a caller cancels a job at `at_ms` because its timeout is over: the job then has expired."""
    if record is None:
        return False
    return at_ms >= record.deadline_ms - min(_LEAD_MS, record.job.timeout_ms / _LEAD_PART)


def worker_lost(record: JobRecord | None) -> Failed:
    """The outcome of a job whose workers were lost with a call under way."""
    losses = record.epoch - record.handbacks if record else 1
    return Failed(
        account=account_without_answer(record),
        error=ErrorEnvelope(
            kind=ErrorKind.WORKER_LOST,
            message=f"The worker was lost in mid-call ({losses} of them in all), and the job may not be "
            "run again: the provider may have billed what nobody received.",
            model=record.job.model if record else None,
        ),
    )


def worker_fault(error: BaseException) -> ErrorEnvelope:
    """The error of a job on which the worker itself failed; it holds no text of the exception's."""
    return ErrorEnvelope(
        kind=ErrorKind.WORKER_FAULT,
        message=f"The worker failed on this job ({type(error).__name__}); its log has the details.",
    )


def _plain_account(outcome: Outcome) -> Account:
    """What a job took, less what cannot be written."""
    try:
        outcome.account.model_dump_json()
    except ValueError:
        return Account(worker=outcome.account.worker)
    return outcome.account


def account_without_answer(record: JobRecord | None, ended_ms: int | None = None) -> Account:
    """What is known of a job that no worker holds.

    Args:
        ended_ms: when it ends, on Redis' clock; None where it ended before, or at its deadline.
    """
    if record is None:
        return Account()
    started_ms = record.started_ms or record.ended_ms or ended_ms or record.deadline_ms
    return Account(
        attempts=record.attempts,
        queue_wait_s=max(started_ms - record.created_ms, 0) / 1000,
        worker=record.worker,
        limited_s=record.limited_ms / 1000,
        limited_by=record.limit_name,
        possible_duplicate_charge=False,
    )
