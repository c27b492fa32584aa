"""Providers that break their streams: a failed attempt is never an answer, and its text is taken back."""

from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import (
    ErrorKind,
    JobTimeout,
    Restarted,
    StreamIdle,
    StreamRestarted,
    StreamTooLarge,
)
from rustic_ai.llm_queue.resolver.exceptions import InternalServerError, QueueError, ResponseProcessingError
from support.callers.llm import MakeLLM, ask
from support.providers.provider import ProviderStub, Step

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-3-5-haiku-latest",
    "gemini": "gemini/gemini-2.0-flash",
}
#: Within a stream; each leaves text behind that is no answer.
FAULTS: dict[str, dict[str, Any]] = {
    "cut": {"fault": "cut"},
    "reset": {"fault": "reset"},
    "no finish": {"fault": "no_finish"},
    "no reason": {"fault": "no_reason"},
    "bad JSON": {"fault": "bad_json"},
    "error event": {"fault": "error_event"},
    "stall": {"fault": "stall", "stall_s": 20.0},
}
GOOD = Step(words=12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_stream_is_begun_anew(llm: MakeLLM, provider: ProviderStub, name: str, fault: str) -> None:
    broken = Step(text="Void, all of it, said the oracle.", after_chunks=4, **FAULTS[fault])
    provider.plan("q", broken, GOOD)
    seen: list[str] = []
    with llm(model=MODELS[name]).stream(ask("Tell me. #q")) as stream:
        for chunk in stream:
            if chunk.restarted:
                seen.clear()
            seen.append(chunk.text)
    first, second = provider.requests("q")
    assert "".join(seen) == stream.text == second.text != first.text
    assert stream.response.choices[0].message.content == second.text
    assert stream.restarts <= 1
    assert [attempt.status for attempt in stream.response.attempts] == ["failed", "ok"]
    provider.assert_clean()


def test_the_reader_sees_the_restart_where_it_happens(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="This is void", chunk_delay_s=0.2, fault="cut", after_chunks=2), GOOD)
    told: list[Restarted] = []
    with llm().stream(ask("Tell me. #q"), on_restart=told.append) as stream:
        chunks = [(chunk.text, chunk.restarted) for chunk in stream if chunk.text or chunk.restarted]
    voids = [text for text, _ in chunks[: [restarted for _, restarted in chunks].index(True)]]
    assert voids
    assert "This is ".startswith("".join(voids)), "a busy worker may see the end before the last chunk"
    assert [(one.reason, one.model) for one in told] == [(ErrorKind.CONNECTION, "openai/gpt-4o-mini")]
    assert stream.restarts == 1


def test_a_fallback_after_the_first_word_is_a_restart(llm: MakeLLM, provider: ProviderStub) -> None:
    broken = Step(text="This is void", chunk_delay_s=0.05, fault="cut", after_chunks=2)
    provider.plan("q", broken, provider="openai")
    told: list[Restarted] = []
    model = llm(max_retries=0, fallback_models=["anthropic/claude-3-5-haiku-latest"])
    with model.stream(ask("Tell me. #q"), on_restart=told.append) as stream:
        stream.result()
    assert [one.model for one in told] == ["anthropic/claude-3-5-haiku-latest"]
    assert stream.text == provider.requests("q")[1].text
    assert stream.response.attempts[-1].model == "anthropic/claude-3-5-haiku-latest"


def test_who_refuses_restarts_gets_an_error_and_the_job_ends(llm: MakeLLM, provider: ProviderStub) -> None:
    broken = Step(text="This is void", chunk_delay_s=0.05, fault="cut", after_chunks=2)
    provider.plan("q", broken, Step(words=2000, chunk_delay_s=0.05))
    with (
        pytest.raises(StreamRestarted) as caught,
        llm().stream(ask("Tell me. #q"), refuse_restarts=True) as stream,
    ):
        stream.result()
    assert (caught.value.kind, caught.value.job_id) == (ErrorKind.CONNECTION, stream.job_id)
    provider.wait_for(lambda seen: not any(one.open for one in seen), "q", 5, "the job's end")


def test_a_failure_before_the_first_word_is_no_restart(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(status=429, retry_after_s=0.1), Step(status=500), GOOD)
    with llm().stream(ask("Tell me. #q"), refuse_restarts=True) as stream:
        stream.result()
    assert stream.restarts == 0
    assert len(stream.response.attempts) == 3
    provider.assert_clean()


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (Step(text="Almost all", fault="no_finish", after_chunks=2, times=None), ResponseProcessingError),
        (Step(text="Almost all", fault="stall", stall_s=20, after_chunks=2, times=None), StreamIdle),
        (Step(status=500, times=None), InternalServerError),
    ],
    ids=["truncated", "stalled", "failed"],
)
def test_what_never_works_is_an_error(
    llm: MakeLLM, provider: ProviderStub, step: Step, error: type[QueueError]
) -> None:
    provider.plan("q", step)
    with pytest.raises(error) as caught, llm(max_retries=1).stream(ask("Tell me. #q")) as stream:
        stream.result()
    assert [attempt.status for attempt in caught.value.attempts] == ["failed", "failed"]
    assert caught.value.job_id == stream.job_id
    provider.wait_for(lambda seen: not any(one.open for one in seen), "q", 5, "the connections to close")


def test_slow_to_its_first_word_is_not_idle(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="At last.", first_token_delay_s=3.5))
    with llm().stream(ask("Tell me. #q")) as stream:
        assert stream.result().choices[0].message.content == "At last."
    assert len(provider.requests("q")) == 1


def test_more_than_a_stream_may_hold_is_an_error(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="x" * 3_000_000, chunk_chars=100_000, times=None))
    with pytest.raises(StreamTooLarge), llm().stream(ask("Tell me. #q")) as stream:
        stream.result()
    assert len(provider.requests("q")) == 1, "it would be no shorter the next time"


def test_the_deadline_ends_a_stream_and_its_call(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=2000, chunk_delay_s=0.05))
    with pytest.raises(JobTimeout) as caught, llm(timeout=1.5).stream(ask("Tell me. #q")) as stream:
        stream.result()
    assert stream.text
    assert caught.value.job_id == stream.job_id
    provider.wait_for(lambda seen: not seen[0].open, "q", 5, "the provider's connection to close")
