"""What follows a failure: decided by its kind, the tries left and the time left. No clocks, no chance."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind, Next
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.worker.attempts.retry import Backoff, Decision, decide
from rustic_ai.llm_queue.worker.provider.failures.retry_after import retry_after_s

BACKOFF = Backoff(base_s=0.5, cap_s=30.0)
RETRIED = sorted(kind for kind in ErrorKind if kind.follows is Next.RETRY)

kinds = st.sampled_from(sorted(ErrorKind))
chances = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, 10_000)


def _decide(
    kind: ErrorKind = ErrorKind.INTERNAL_SERVER,
    *,
    failures: int = 1,
    max_retries: int = 2,
    more_models: bool = True,
    remaining_s: float = 600.0,
    retry_after: float | None = None,
    code: str | None = None,
    chance: float = 0.5,
    previous_pause_s: float = 0.0,
) -> Decision:
    return decide(
        ErrorEnvelope(kind=kind, message="m", retry_after_s=retry_after, code=code),
        failures=failures,
        max_retries=max_retries,
        more_models=more_models,
        remaining_s=remaining_s,
        backoff=BACKOFF,
        random=lambda: chance,
        previous_pause_s=previous_pause_s,
    )


def test_every_kind_is_decided() -> None:
    assert {type(kind.follows) for kind in ErrorKind} == {Next}


@pytest.mark.parametrize(
    ("kind", "following"),
    [
        (ErrorKind.RATE_LIMIT, Next.RETRY),
        (ErrorKind.CONNECTION, Next.RETRY),
        (ErrorKind.TIMEOUT, Next.RETRY),
        (ErrorKind.INTERNAL_SERVER, Next.RETRY),
        (ErrorKind.RESPONSE_PROCESSING, Next.RETRY),
        (ErrorKind.STREAM_IDLE, Next.RETRY),
        (ErrorKind.BAD_REQUEST, Next.FALL_BACK),
        (ErrorKind.AUTHENTICATION, Next.FALL_BACK),
        (ErrorKind.PERMISSION_DENIED, Next.FALL_BACK),
        (ErrorKind.NOT_FOUND, Next.FALL_BACK),
        (ErrorKind.CONTEXT_WINDOW, Next.FALL_BACK),
        (ErrorKind.CONTENT_POLICY, Next.FALL_BACK),
        (ErrorKind.STREAM_TOO_LARGE, Next.GIVE_UP),
        (ErrorKind.WORKER_FAULT, Next.GIVE_UP),
    ],
)
def test_what_follows_a_first_failure(kind: ErrorKind, following: Next) -> None:
    assert _decide(kind).next is following


@pytest.mark.parametrize("kind", RETRIED)
def test_tries_used_up_lead_to_the_next_model_or_the_end(kind: ErrorKind) -> None:
    assert _decide(kind, failures=2, max_retries=2).next is Next.RETRY
    assert _decide(kind, failures=3, max_retries=2).next is Next.FALL_BACK
    assert _decide(kind, failures=3, max_retries=2, more_models=False).next is Next.GIVE_UP
    assert _decide(kind, failures=1, max_retries=0).next is Next.FALL_BACK


def test_an_account_out_of_credit_is_not_waited_for() -> None:
    assert _decide(ErrorKind.RATE_LIMIT, code="insufficient_quota", retry_after=1).next is Next.FALL_BACK


@given(kind=kinds, failures=st.integers(1, 200), remaining=seconds, asked=st.none() | seconds, chance=chances)
def test_no_pause_ever_passes_the_deadline(
    kind: ErrorKind, failures: int, remaining: float, asked: float | None, chance: float
) -> None:
    decision = _decide(
        kind, failures=failures, max_retries=100, remaining_s=remaining, retry_after=asked, chance=chance
    )
    assert decision.delay_s == 0 or decision.delay_s < remaining
    assert decision.delay_s == 0 or decision.next is Next.RETRY


@given(asked=seconds, chance=chances)
def test_what_a_provider_asks_for_is_waited_in_full(asked: float, chance: float) -> None:
    decision = _decide(ErrorKind.RATE_LIMIT, retry_after=asked, remaining_s=20_000, chance=chance)
    assert decision.next is Next.RETRY
    assert asked <= decision.delay_s <= max(asked * 1.1, 0.06)


@given(asked=st.floats(0.001, 1e6), chance=chances)
def test_a_wait_that_just_fits_is_waited(asked: float, chance: float) -> None:
    decision = _decide(
        ErrorKind.RATE_LIMIT, retry_after=asked, remaining_s=asked * 1.001 + 0.1, chance=chance
    )
    assert decision.next is Next.RETRY
    assert decision.delay_s >= asked


@pytest.mark.parametrize("more_models", [True, False])
def test_a_wait_past_the_deadline_is_not_begun(more_models: bool) -> None:
    decision = _decide(ErrorKind.RATE_LIMIT, retry_after=60, remaining_s=30, more_models=more_models)
    assert decision == Decision(Next.FALL_BACK if more_models else Next.GIVE_UP)


@given(chances=st.lists(chances, min_size=2, max_size=12))
def test_pauses_grow_up_to_the_cap(chances: list[float]) -> None:
    pause, pauses = 0.0, []
    for failures, chance in enumerate(chances, start=1):
        pause = BACKOFF.pause_s(failures, pause, lambda: chance)  # noqa: B023 - called at once
        pauses.append(pause)
    assert all(0.05 < one <= BACKOFF.cap_s for one in pauses)
    assert all(later > earlier * 1.2 for earlier, later in pairwise(pauses) if later < 30)


@given(failures=st.integers(1, 10_000), chance=chances)
def test_a_pause_is_spread_over_its_whole_range(failures: int, chance: float) -> None:
    ceiling = min(30.0, 0.5 * 2.0 ** min(failures - 1, 60))
    assert BACKOFF.pause_s(failures, 0.0, lambda: chance) == max(0.06, ceiling * chance)


def _headers(**values: str) -> httpx.Headers:
    return httpx.Headers({name.replace("_", "-"): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (_headers(Retry_After="7"), 7.0),
        (_headers(RETRY_AFTER="0.5"), 0.5),
        (_headers(retry_after_ms="250", retry_after="9"), 0.25),
        (_headers(retry_after_ms="junk", retry_after="9"), 9.0),
        (_headers(retry_after="0"), 0.0),
        (_headers(retry_after="-3"), None),
        (_headers(retry_after="nan"), None),
        (_headers(retry_after="inf"), None),
        (_headers(retry_after="1e300"), None),
        (_headers(retry_after="soon"), None),
        (_headers(retry_after="Wed, 99 Foo 2026 07:28:00 GMT"), None),
        (_headers(), None),
        (_headers(retry_after="Wed, 21 Oct 2026 07:28:30 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT"), 30.0),
        (_headers(retry_after="Wed, 21 Oct 2026 07:27:00 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT"), 0.0),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: httpx.Headers, seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_as_a_date_without_the_servers_own() -> None:
    then = datetime.now(UTC) + timedelta(seconds=100)
    asked = retry_after_s(_headers(retry_after=format_datetime(then, usegmt=True)))
    assert asked is not None
    assert 90 < asked <= 100


@pytest.mark.parametrize(
    "body", ['{"retryDelay": "34s"}', '{\\"retryDelay\\": \\"34.0s\\"}', "{'retryDelay': '34s'}"]
)
def test_google_asks_in_the_body(body: str) -> None:
    assert retry_after_s({}, body) == 34.0
    assert retry_after_s({}, body.replace("34", "9" * 400)) is None, "no time that anybody could mean"


@given(st.text(max_size=50), st.text(max_size=50))
def test_no_header_breaks_the_reading(value: str, date: str) -> None:
    asked = retry_after_s({"retry-after": value, "retry-after-ms": date, "date": date})
    assert asked is None or 0 <= asked < float("inf")
