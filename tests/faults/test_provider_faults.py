"""Providers that are down, slow or cut off, with many calls at once."""

import pytest

from faults.checker import assert_promises
from faults.history import Ending
from faults.scene import Scene
from support.providers.provider import Step

pytestmark = pytest.mark.timeout(120)

FAILED: frozenset[Ending] = frozenset({"failed"})


def test_a_provider_that_is_down_costs_as_many_tries_as_were_allowed(scene: Scene) -> None:
    scene.provider.plan("*", Step(status=503, times=None))
    scene.start_worker()
    calls = scene.callers.ask(10, "q", max_retries=1, may_end=FAILED)
    verdict = assert_promises(scene.history())
    assert verdict.requests == 20
    assert {call.error.split(":")[0] for call in calls if call.error} == {"InternalServerError"}


def test_a_provider_that_comes_back_in_time_is_waited_for(scene: Scene) -> None:
    for number in range(10):
        scene.provider.plan(f"q-{number}", Step(fault="refuse"), Step(status=500), Step())
    scene.start_worker()
    scene.callers.ask(10, "q")
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (10, 30)


@pytest.mark.parametrize("fault", ["cut", "reset", "bad_json"])
def test_an_answer_that_breaks_off_is_asked_for_again(scene: Scene, fault: str) -> None:
    for number in range(5):
        scene.provider.plan(f"q-{number}", Step.model_validate({"fault": fault}), Step())
    scene.start_worker()
    scene.callers.ask(5, "q")
    verdict = assert_promises(scene.history())
    assert (verdict.answered, verdict.requests) == (5, 10)


def test_a_provider_that_is_too_slow_is_given_up_at_the_deadline(scene: Scene) -> None:
    scene.provider.plan("*", Step(delay_s=30, times=None))
    scene.start_worker()
    scene.callers.ask(10, "q", timeout_s=3.0, may_end=frozenset({"timeout"}))
    verdict = assert_promises(scene.history())
    assert verdict.requests <= 10, "given up, not tried again"


def test_30_malformed_messages_under_load(scene: Scene) -> None:
    from support.callers.malformed import malformed_messages

    scene.provider.plan("*", Step(delay_s=0.5, times=None))
    workers = [scene.start_worker(), scene.start_worker()]
    messages = list(malformed_messages().values())
    scene.callers.ask(50, "before")
    with scene.server.client() as client:
        for raw in messages:
            client.lpush("llm", raw)
            client.rpush("llm", raw)
        scene.callers.ask(50, "after")
        verdict = assert_promises(scene.history())
        assert client.llen("llmq:quarantine") == 2 * len(messages)
    assert len(messages) >= 30
    assert (verdict.answered, verdict.requests) == (100, 100)
    assert all(worker.running for worker in workers)
