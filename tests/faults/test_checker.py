"""The checker finds what it is there to find: each promise broken in a made-up history."""

from collections.abc import Callable

import pytest

from faults.checker import check
from faults.history import Call, History, JobEnd, WorkerFault
from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from support.providers.provider import ProviderRequest

Damage = Callable[[History], None]


def request(id_: int, received_at: float, ended_at: float, **fields: object) -> ProviderRequest:
    base: dict[str, object] = {
        "id": id_, "tag": "q", "provider": "openai", "method": "POST", "path": "/v1", "headers": [],
        "received_at": received_at, "ended_at": ended_at, "status": 200, "texts": [f"answer {id_}"],
        "completed": True,
    }  # fmt: skip
    return ProviderRequest.model_validate(base | fields)


def attempt(number: int, status: str = "ok", epoch: int = 1) -> AttemptRecord:
    fields = {"number": number, "epoch": epoch, "model": "m", "status": status}
    return AttemptRecord.model_validate(fields)


def good() -> History:
    """One call, answered by its one request."""
    call = Call(
        tag="q", timeout_s=10, submitted_at=100, job_id="j", ended_at=102, ending="answered",
        response_id="chatcmpl-stub-1", text="answer 1", attempts=(attempt(1),),
    )  # fmt: skip
    jobs = {"j": JobEnd("answered", "answered", epoch=1)}
    return History([call], [request(1, 100.5, 101.5)], jobs=jobs)


def rerun() -> History:
    """One call whose worker was killed in mid-call, and another one answered."""
    history = good()
    first = request(1, 100.5, 101.0, completed=False, client_closed=True, texts=[])
    history.requests = [first, request(2, 101.2, 101.6)]
    history.faults = [WorkerFault("killed", 100.9, 100.95)]
    history.jobs = {"j": JobEnd("answered", "answered", epoch=2)}
    (call,) = history.calls
    call.response_id, call.text = "chatcmpl-stub-2", "answer 2"
    call.attempts = (attempt(1, "lost"), attempt(2, epoch=2))
    call.possible_duplicate_charge = True
    return history


def test_good_histories_pass() -> None:
    assert check(good()).violations == []
    verdict = check(rerun())
    assert verdict.violations == []
    assert (verdict.duplicates, verdict.avoidable_duplicates, verdict.losses) == (1, 0, 0)
    assert verdict.rerun_s == [pytest.approx(0.3)]


def never_ended(history: History) -> None:
    history.calls[0].ending = history.calls[0].ended_at = None


def ended_otherwise(history: History) -> None:
    history.calls[0].ending, history.calls[0].error = "timeout", "JobTimeout"


def waited_past_the_deadline(history: History) -> None:
    history.calls[0].ended_at = 100 + 10 + 5


def unknown_to_the_ledger(history: History) -> None:
    history.jobs.clear()


def not_final(history: History) -> None:
    history.jobs["j"] = JobEnd("running", None, epoch=1)


def ended_twice(history: History) -> None:
    history.jobs["j"] = JobEnd("failed", "failed", epoch=1)


def result_overwritten(history: History) -> None:
    history.jobs["j"] = JobEnd("answered", "RETRY", epoch=1)


def another_text(history: History) -> None:
    history.calls[0].text = "answer 7"


def another_answer(history: History) -> None:
    history.calls[0].response_id = "chatcmpl-stub-9"


def truncated_answer(history: History) -> None:
    history.requests[0].completed = False


def last_attempt_failed(history: History) -> None:
    history.calls[0].attempts = (attempt(1, "failed"),)


def asked_twice(history: History) -> None:
    history.requests.append(request(2, 101.6, 101.9))


def asked_off_the_record(history: History) -> None:
    history.requests.insert(0, request(2, 100.1, 100.2, status=500, completed=False))


def asked_too_often(history: History) -> None:
    failures = [request(n, 100.1 + n / 100, 100.11 + n / 100, status=500) for n in range(2, 6)]
    history.requests = [*failures, request(1, 100.5, 101.5)]
    history.calls[0].attempts = tuple(attempt(number) for number in range(1, 6))


def asked_after_the_deadline(history: History) -> None:
    history.requests[0] = request(1, 114, 115)


def nobody_asked(history: History) -> None:
    history.requests.append(request(9, 100, 101, tag="stranger"))


def false_alarm(history: History) -> None:
    history.calls[0].possible_duplicate_charge = True


def something_left(history: History) -> None:
    history.leftovers.append("1 leases")


@pytest.mark.parametrize(
    "damage",
    [
        never_ended,
        ended_otherwise,
        waited_past_the_deadline,
        unknown_to_the_ledger,
        not_final,
        ended_twice,
        result_overwritten,
        another_text,
        another_answer,
        truncated_answer,
        last_attempt_failed,
        asked_twice,
        asked_off_the_record,
        asked_too_often,
        asked_after_the_deadline,
        nobody_asked,
        false_alarm,
        something_left,
    ],
)
def test_a_broken_promise_is_found(damage: Damage) -> None:
    history = good()
    damage(history)
    assert check(history).violations


def no_fault(history: History) -> None:
    history.faults.clear()


def fault_at_another_time(history: History) -> None:
    history.faults = [WorkerFault("killed", 50, 51)]


def hidden_charge(history: History) -> None:
    history.calls[0].possible_duplicate_charge = False


@pytest.mark.parametrize("damage", [no_fault, fault_at_another_time, hidden_charge])
def test_a_rerun_that_nothing_excuses_or_announces_is_found(damage: Damage) -> None:
    history = rerun()
    damage(history)
    verdict = check(history)
    assert verdict.violations
    assert verdict.avoidable_duplicates == (damage is not hidden_charge)


def answered_twice(*outages: tuple[float, float], killed_at: float) -> History:
    """One call whose first answer did not reach the ledger before its worker was killed."""
    history = rerun()
    history.requests = [request(1, 100.2, 100.4), request(2, killed_at + 1, killed_at + 1.2)]
    history.faults = [WorkerFault("killed", killed_at, killed_at)]
    history.outages = list(outages)
    history.calls[0].timeout_s, history.calls[0].ended_at = 60, killed_at + 2
    return history


def test_an_answer_waits_for_as_long_as_redis_takes_no_records() -> None:
    assert check(answered_twice(killed_at=102)).violations == []
    assert check(answered_twice(killed_at=105)).avoidable_duplicates == 1
    one_after_the_other = (104.0, 107.0), (102.0, 105.0)
    assert check(answered_twice(*one_after_the_other, killed_at=108.5)).violations == []
    assert check(answered_twice(*one_after_the_other, killed_at=110)).avoidable_duplicates == 1
    assert check(answered_twice((103.0, 107.0), killed_at=106)).avoidable_duplicates == 1


def test_a_refused_submit_may_exist_or_not() -> None:
    history = good()
    (call,) = history.calls
    call.ending, call.may_end, call.accepted = "refused", frozenset({"refused"}), False
    history.requests.clear()
    history.jobs = {"j": JobEnd("cancelled", "cancelled")}
    assert check(history).violations == []
    history.jobs.clear()
    assert check(history).violations == []
    history.jobs = {"j": JobEnd("queued", None)}
    assert check(history).violations
