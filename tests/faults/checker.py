"""Proves the promises I1-I4 and I6 from a history, or says where they were broken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from faults.history import Call, History
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.providers.provider import ProviderRequest

#: How much later than its deadline a call may end, on a machine that is busy: the last look at
#: the record alone takes up to 0.5 s.
DEADLINE_SLACK_S = 3.0
REFUSED_AFTER_S = QueueSettings().redis_timeout.total_seconds()
#: How long after a worker's death the provider notices, and how long an answer may have been on its
#: way to the ledger when its worker died.
_NOTICED_S = 2.0
_ON_ITS_WAY_S = 2.5

#: Final states of the ledger that go with what a caller was told. A call that ended at its
#: deadline, or was refused, leaves a job that was cancelled, unless it ended at the same moment.
_AGREE = {
    "answered": {"answered"},
    "failed": {"failed"},
    "cancelled": {"cancelled"},
    "timeout": {"cancelled", "expired", "answered", "failed"},
    "refused": {"cancelled", "expired", "answered", "failed"},
}


#: Tags of calls whose process is killed before it could tell how they ended.
OF_DEAD_CALLERS = "dead-caller"


@dataclass
class Verdict:
    """What the checker found."""

    violations: list[str] = field(default_factory=list)
    jobs: int = 0
    answered: int = 0
    #: Accepted jobs that ended otherwise than their callers were due.
    losses: int = 0
    requests: int = 0
    #: Second provider requests that a worker's loss made necessary, and those nothing excuses.
    duplicates: int = 0
    avoidable_duplicates: int = 0
    #: From a worker's death to the next request for a job it had, in seconds.
    rerun_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.jobs} jobs, {self.answered} answered, {self.requests} provider requests, "
            f"{self.duplicates} repeated after a worker's loss, "
            f"{self.avoidable_duplicates} avoidable duplicates, {self.losses} losses, "
            f"{len(self.violations)} violations"
        )


def check(history: History) -> Verdict:
    """Judge the whole history."""
    verdict = Verdict(jobs=len(history.calls), requests=len(history.requests))
    for call in history.calls:
        found = [*_ending(call), *_ledger(history, call), *_answer(history, call)]
        if call.accepted and any(found):
            verdict.losses += 1
        found += _requests(history, call, verdict)
        verdict.violations += [f"{call.tag} ({call.job_id}): {one}" for one in found]
        verdict.answered += call.ending == "answered"
    tags = {call.tag for call in history.calls}
    strangers = sum(
        one.tag not in tags and not str(one.tag).startswith(OF_DEAD_CALLERS) for one in history.requests
    )
    if strangers:
        verdict.violations.append(f"{strangers} provider requests that no call asked for")
    verdict.violations += [f"left over: {one}" for one in history.leftovers]
    return verdict


def assert_promises(history: History) -> Verdict:
    """`check`, raising AssertionError with what was found unless all promises were kept."""
    verdict = check(history)
    assert not verdict.violations, "\n".join([str(verdict), *verdict.violations[:40]])
    return verdict


def _ending(call: Call) -> Iterator[str]:
    if call.ending is None or call.ended_at is None:
        yield "never ended at its caller"
        return
    if call.ending not in call.may_end:
        yield f"ended as {call.ending} ({call.error}), may end as {', '.join(sorted(call.may_end))}"
    # A submit is refused once Redis has not taken it for so long, however short the call's own timeout is.
    due_s = max(call.timeout_s, REFUSED_AFTER_S) if call.ending == "refused" else call.timeout_s
    late_s = call.ended_at - call.submitted_at - due_s
    if late_s > DEADLINE_SLACK_S:
        yield f"its caller waited {late_s:.1f} s past the deadline"


def _ledger(history: History, call: Call) -> Iterator[str]:
    job = history.jobs.get(call.job_id or "")
    if job is None or job.result is None:
        # A record that came back without its result is one that a renewal was about to bring back.
        # A caller that had given up brings nothing back.
        since = call.submitted_at if call.ending in ("timeout", "refused") else (call.ended_at or 0.0) - 1.0
        if any(since <= at for at in history.flushes):
            return
    if job is None:
        if call.accepted:
            yield "the ledger knows nothing of an accepted job"
        return
    agreeing = _AGREE[call.ending] if call.ending else set()
    if job.state not in agreeing:
        yield f"the caller was told {call.ending}, the ledger says {job.state}"
    if job.result != job.state:
        yield f"the stored result says {job.result}, the record {job.state}"


def _answer(history: History, call: Call) -> Iterator[str]:
    if call.ending != "answered":
        return
    if call.raw_text is not None:
        if call.text != call.raw_text:
            yield f"answered with {call.text!r} in place of {call.raw_text!r}"
        return
    requests = history.requests_of(call.tag)
    winner = next((one for one in requests if call.response_id == f"chatcmpl-stub-{one.id}"), None)
    if winner is None:
        yield f"answered with {call.response_id}, which the provider never sent for it"
    elif not winner.completed or winner.text != call.text:
        yield "the answer is not what the provider sent"
    if not call.attempts or call.attempts[-1].status != "ok":
        yield f"answered, but its last attempt is {call.attempts[-1:]}"


def _requests(history: History, call: Call, verdict: Verdict) -> Iterator[str]:
    requests = history.requests_of(call.tag)
    lost = failed = 0
    for request, following in pairwise(requests):
        if _failed(request):
            failed += 1
        elif _was_hit(history, request, following):
            lost += 1
            deaths = [one.from_s for one in history.faults if one.hit == "killed"]
            verdict.rerun_s += [following.received_at - at for at in deaths if _fits(at, request, following)]
        else:
            verdict.avoidable_duplicates += 1
            yield f"request {request.id} was repeated although nothing had happened to it"
    verdict.duplicates += lost
    tries = failed + (1 if requests and _failed(requests[-1]) else 0)
    if tries > call.max_retries + 1:
        yield f"{tries} failed requests, {call.max_retries + 1} are allowed"
    ended_at = call.ended_at if call.ended_at is not None else float("inf")
    # The attempts on a record that Redis has lost are lost, too.
    generation = history.jobs[call.job_id].generation if call.job_id in history.jobs else 0
    forgotten = generation or any(call.submitted_at <= at <= ended_at for at in history.flushes)
    if (
        call.ending == "answered"
        and not forgotten
        and len(requests) > max(one.number for one in call.attempts)
    ):
        yield f"{len(requests)} provider requests, only {len(call.attempts)} attempts on record"
    deadline = call.submitted_at + call.timeout_s
    if any(one.received_at > deadline + DEADLINE_SLACK_S for one in requests):
        yield "the provider was asked after the deadline"
    if call.ending == "answered":
        yield from _charge(history, call, lost)


def _charge(history: History, call: Call, lost: int) -> Iterator[str]:
    if lost and not call.possible_duplicate_charge:
        yield "billed twice, and the response does not say so"
    job = history.jobs.get(call.job_id or "")
    unharmed = job is not None and not job.generation and job.epoch - job.handbacks <= 1
    if unharmed and call.possible_duplicate_charge:
        yield "a duplicate charge is announced where no worker was lost"


def _failed(request: ProviderRequest) -> bool:
    """The provider's own failure: a try that counts."""
    return request.status >= 400 or (request.fault is not None and not request.client_closed)


def _fits(death_s: float, request: ProviderRequest, following: ProviderRequest) -> bool:
    cut = request.ended_at is not None and -_ON_ITS_WAY_S <= request.ended_at - death_s <= _NOTICED_S
    return cut and following.received_at > death_s


def _was_hit(history: History, request: ProviderRequest, following: ProviderRequest) -> bool:
    """Whether its worker was lost before the answer was on record."""
    ended_at = request.ended_at if request.ended_at is not None else following.received_at
    if request.completed:
        recorded_by = history.recorded_by(ended_at, _ON_ITS_WAY_S)
        # What Redis forgets before the caller has heard of it is lost with it.
        if any(ended_at <= at <= min(recorded_by, following.received_at) for at in history.flushes):
            return True
        return history.hit(("killed", "frozen", "handed back"), ended_at - 0.2, recorded_by)
    cut_short = history.hit(("killed", "handed back", "forgotten"), ended_at - _NOTICED_S, ended_at + 0.2)
    return cut_short or history.hit(("frozen",), request.received_at, ended_at)
