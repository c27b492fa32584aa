"""Limits on real workers: jobs wait in Redis, in order, and nothing is left of them however they end."""

import json
from typing import Any

import pytest

from faults.checker import assert_promises
from faults.scene import Scene
from faults.shows.limits import calls_after_a_refusal, other_models_start_s, waiting
from rustic_ai.llm_queue.resolver import JobHandle, RateLimitError
from rustic_ai.llm_queue.tasks.ledger import keys
from support.callers.llm import ask
from support.providers.provider import Step

pytestmark = pytest.mark.timeout(120)

FALLBACK = "anthropic/claude-sonnet-4-5"


def limits(*rows: dict[str, Any]) -> dict[str, str]:
    return {"LIMITS": json.dumps(rows)}


ONE_AT_ONCE = limits({"name": "openai", "match": {"provider": "openai"}, "max_parallel_requests": 1})


def wait_until_waiting(scene: Scene, count: int) -> None:
    scene.until(lambda: waiting(scene) == count, f"{count} jobs to wait for a limit")


def leave_nothing(scene: Scene) -> None:
    scene.until(lambda: not scene._leftovers(), f"nothing to be left, but {scene._leftovers()}", 15)


def most_open_at_once(scene: Scene) -> int:
    """The most calls that the provider ever had at once."""
    steps: list[tuple[float, int]] = []
    for one in scene.provider.requests():
        steps += [(one.received_at, 1), (one.ended_at or one.received_at, -1)]
    most = now = 0
    for _, change in sorted(steps):
        now += change
        most = max(most, now)
    return most


def test_several_workers_share_a_limit_and_one_that_dies_takes_no_room_with_it(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=0.15, times=None))
    rules = limits({"name": "openai", "match": {"provider": "openai"}, "max_parallel_requests": 4})
    workers = [scene.start_worker(rules) for _ in range(3)]
    scene.callers.ask(60, "q")
    scene.until(lambda: len(scene.provider.requests()) >= 12, "some calls")
    scene.kill(workers[0])
    verdict = assert_promises(scene.history())
    assert verdict.answered == 60
    # The provider still has a dead worker's call when its place is given to another.
    assert most_open_at_once(scene) <= 4
    leave_nothing(scene)


def test_jobs_that_wait_take_no_place_in_a_worker(scene: Scene) -> None:
    _, held = other_models_start_s(scene, jobs=40, places=3)
    assert scene.waiting() == 0, "what waits for a limit is no work for more workers"
    scene.provider.release()
    assert all(handle.result(60) for handle in held)
    leave_nothing(scene)


def test_they_start_in_the_order_in_which_they_came(scene: Scene) -> None:
    scene.start_worker(ONE_AT_ONCE)
    scene.provider.plan("q-0", Step(hold=True))
    handles = [scene.callers.llm().submit(ask("#q-0"))]
    # Or the next one might be at the limit before it.
    scene.provider.wait_for_requests(1, "q-0")
    for number in range(1, 8):
        handles.append(scene.callers.llm().submit(ask(f"#q-{number}")))
        wait_until_waiting(scene, number)
    scene.provider.release()
    answers = [handle.result(60) for handle in handles]
    order = [one.tag for one in scene.provider.requests()]
    assert order == [f"q-{number}" for number in range(8)]
    assert answers[7].limited_by == "openai"
    assert answers[7].limited_s is not None
    assert answers[7].limited_s > 0


def test_a_429_closes_the_model_to_all_workers_until_one_call_has_gone_through(scene: Scene) -> None:
    scene.start_worker()
    scene.start_worker()
    refused, tried, healthy = Step(status=429, retry_after_s=4), Step(hold=True), Step(times=None)
    scene.provider.plan("*", refused, tried, healthy, model="gpt-4o-mini")
    first = scene.callers.llm().submit(ask("#first"))
    scene.until(lambda: waiting(scene) == 1, "the first to wait for the provider")
    rest = [scene.callers.llm().submit(ask(f"#rest-{number}")) for number in range(20)]
    scene.until(lambda: waiting(scene) == 21, "all to wait")
    assert len(scene.provider.requests()) == 1, "no call by anybody while it is closed"
    other = scene.callers.llm(model="openai/gpt-4o").completion(ask("#other model"))
    assert other.limited_s == 0
    scene.until(lambda: len(scene.provider.requests()) >= 3, "one to try")
    assert scene.provider.open_calls == 1
    assert waiting(scene) == 20
    scene.provider.release()
    answer = first.result(60)
    assert [attempt.status for attempt in answer.attempts] == ["failed", "ok"]
    assert all(handle.result(60) for handle in rest)
    leave_nothing(scene)


def test_once_a_call_is_refused_room_that_comes_is_given_to_nobody(scene: Scene) -> None:
    calls, jobs = calls_after_a_refusal(scene, jobs=30, workers=2)
    assert calls == 0
    assert all(handle.cancel() for handle in jobs)
    leave_nothing(scene)


def test_a_workers_own_clock_is_of_no_matter(scene: Scene) -> None:
    # All twelve of a minute may go at once; the next one goes 61 s later.
    rules = limits({"name": "rate", "rpm": 12, "burst": 12})
    scene.provider.plan("*", Step(hold=True, times=None))
    for off_s in (-90.0, 0.0, 90.0):
        # Too few places in two of them for all: each worker makes some of the calls.
        scene.start_worker(rules, clock_off_s=off_s, CONCURRENCY="5")
    handles = [scene.callers.llm().submit(ask(f"#q-{number}")) for number in range(30)]
    wait_until_waiting(scene, 18)
    scene.until(lambda: len(scene.provider.requests()) >= 12, "those that have room")
    assert len(scene.provider.requests()) == 12
    scene.provider.release()
    answers = [handle.result(60) for handle in handles if not handle.waits_for()]
    assert len(answers) == 12
    assert len({answer.worker for answer in answers}) == 3
    assert all(handle.cancel() for handle in handles if not handle.status().final)
    leave_nothing(scene)


def test_a_retry_that_is_due_later_waits_in_no_worker(scene: Scene) -> None:
    scene.start_worker(CONCURRENCY="1", RETRY_BASE="4s", RETRY_CAP="5s", LEASE="3s")
    for attempt in range(6):
        scene.provider.plan(f"down-{attempt}", Step(status=500, times=None))
    down = [scene.callers.llm(max_retries=3).submit(ask(f"#down-{number}")) for number in range(6)]
    with scene.server.client() as client:
        scene.until(lambda: client.zcard(keys.PAUSED) >= 1, "a retry to wait")
    assert scene.callers.llm().completion(ask("#other")).choices
    assert all(handle.cancel() or handle.status().final for handle in down)
    leave_nothing(scene)


def test_who_may_not_wait_fails_or_asks_another_model(scene: Scene) -> None:
    scene.start_worker(ONE_AT_ONCE)
    scene.provider.plan("held", Step(hold=True))
    held = scene.callers.llm().submit(ask("#held"))
    scene.provider.wait_for_requests(1, "held")
    with pytest.raises(RateLimitError, match="openai"):
        scene.callers.llm(when_limited="fail").completion(ask("#never"))
    with pytest.raises(RateLimitError, match="openai"):
        scene.callers.llm(max_wait=0.3).completion(ask("#not for long"))
    fallen = scene.callers.llm(when_limited="fall_back", fallback_models=[FALLBACK]).completion(ask("#other"))
    assert "claude" in fallen.model
    assert [one.tag for one in scene.provider.requests()] == ["held", "other"]
    scene.provider.release()
    assert held.result(30)
    leave_nothing(scene)


def test_a_waiting_job_says_what_it_waits_for(scene: Scene) -> None:
    scene.start_worker(limits({"name": "slow", "rpm": 2, "burst": 1}))
    assert scene.callers.llm().completion(ask("#first"))
    handles: list[JobHandle] = []
    for number in range(2):
        handles.append(scene.callers.llm().submit(ask(f"#q-{number}")))
        wait_until_waiting(scene, number + 1)
    waits = [handle.waits_for() for handle in handles]
    assert [(wait.limited_by, wait.ahead) for wait in waits if wait] == [("slow", 0), ("slow", 1)]
    starts = [wait.starts_in_s or 0 for wait in waits if wait]
    assert 0 < starts[0] <= 31 < starts[1] <= 62
    assert all(handle.cancel() for handle in handles)
    leave_nothing(scene)


def test_a_stream_that_says_nothing_in_time_is_the_next_models(scene: Scene) -> None:
    scene.start_worker()
    scene.provider.plan("mute", Step(first_token_delay_s=60), model="gpt-4o-mini")
    llm = scene.callers.llm(first_token_timeout=4, max_retries=0, fallback_models=[FALLBACK])
    with llm.stream(ask("#mute")) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text
    assert stream.response is not None
    assert [str(one.error) for one in stream.response.attempts] == ["timeout", "None"]
    leave_nothing(scene)
