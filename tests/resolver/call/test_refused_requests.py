"""Requests that cannot be sent: each is refused with a clear error, and nothing is queued."""

import math
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from rustic_ai.llm_queue.resolver import InvalidRequest, LimitExceeded, Properties
from rustic_ai.llm_queue.resolver.call.request import build_call, timeout_s
from rustic_ai.llm_queue.tasks.settings import QueueSettings

HI = [UserMessage(content="Hi")]


def refusal(prompt: Any, model: Any = None, /, settings: QueueSettings | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        build_call(Properties(model="gpt-4"), prompt, model, settings=settings or QueueSettings())
    return str(caught.value)


def test_a_prompt_that_is_none_is_refused() -> None:
    assert "dict" in refusal({"messages": []})
    assert "messages" in refusal(ChatCompletionRequest(messages=HI).model_copy(update={"messages": []}))


def test_an_unknown_class_for_the_response_is_refused() -> None:
    prompt = ChatCompletionRequest(messages=HI, response_format="no.such.Class")
    assert "response_format: 'no.such.Class'" in refusal(prompt)


@pytest.mark.parametrize("model", ["", "  ", 4])
def test_a_model_that_is_none_is_refused(model: Any) -> None:
    assert "model" in refusal(ChatCompletionRequest(messages=HI), model)


@pytest.mark.parametrize(
    "prompt",
    [
        ChatCompletionRequest(messages=[UserMessage.model_construct(content="a\ud800b")]),
        ChatCompletionRequest(messages=HI, response_format={"title": "\udfff"}),
        ChatCompletionRequest(messages=HI).model_copy(update={"user": "\ud800"}),
    ],
)
def test_text_that_is_not_unicode_is_refused(prompt: ChatCompletionRequest) -> None:
    assert "not valid Unicode" in refusal(prompt)


def test_numbers_that_are_none_and_bottomless_nesting_are_refused() -> None:
    assert "finite" in refusal(ChatCompletionRequest(messages=HI, response_format={"minimum": math.nan}))
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    assert "nested" in refusal(ChatCompletionRequest(messages=HI, response_format=deep))


def test_a_request_beyond_the_limit_is_refused_with_both_sizes() -> None:
    prompt = ChatCompletionRequest(messages=[UserMessage(content="é" * 2000)])
    with pytest.raises(LimitExceeded) as caught:
        build_call(Properties(model="gpt-4"), prompt, settings=QueueSettings(max_body_bytes=4000))
    message = str(caught.value)
    assert "4,000" in message
    assert "4,1" in message
    assert "LLM_QUEUE_MAX_BODY_BYTES" in message


@pytest.mark.parametrize(
    ("asked", "refusal", "says"),
    [
        (0, InvalidRequest, "above 0"),
        (math.nan, InvalidRequest, "above 0"),
        (1801, LimitExceeded, "LLM_QUEUE_MAX_TIMEOUT"),
        (math.inf, LimitExceeded, "LLM_QUEUE_MAX_TIMEOUT"),
    ],
)
def test_a_timeout_out_of_bounds_is_refused(asked: float, refusal: type[Exception], says: str) -> None:
    prompt = ChatCompletionRequest(messages=HI).model_copy(update={"timeout": asked})
    with pytest.raises(refusal, match=says):
        timeout_s(Properties(model="m"), prompt, QueueSettings())


@pytest.mark.parametrize("asked", [-1, 101])
def test_retries_out_of_bounds_are_refused(asked: int) -> None:
    assert "max_retries" in refusal(ChatCompletionRequest(messages=HI, max_retries=asked))
