"""What an agent gets of a provider's answer."""

import copy
import pickle
from typing import Any

import pytest
from pydantic import ValidationError
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionResponse,
    ChoiceLogprobs,
    FinishReason,
    UserMessage,
)
from rustic_ai.core.utils.basic_class_utils import get_qualified_class_name

from rustic_ai.llm_queue.resolver import AttemptRecord, QueueChatCompletionResponse
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import OUTCOME, Account, Answered

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 10,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 6},
    "cache_read_input_tokens": 8,
}
ACCOUNT = Account(
    attempts=(
        AttemptRecord(number=1, epoch=1, model="gpt-4", status="failed", error=ErrorKind.RATE_LIMIT,
                      provider_status=429, run_time_s=0.1, backoff_s=0.5),
        AttemptRecord(number=2, epoch=1, model="gpt-4o", status="ok", provider_status=200, run_time_s=0.9),
    ),
    queue_wait_s=0.25,
    run_time_s=1.5,
    worker="w1@host",
    cost_usd=0.0012,
    prompt_tokens=20,
    completion_tokens=10,
    cached_tokens=8,
    reasoning_tokens=6,
    possible_duplicate_charge=True,
)  # fmt: skip


def answered(*choices: dict[str, Any], **fields: Any) -> QueueChatCompletionResponse:
    """The response, its outcome having been through JSON."""
    message = {"role": "assistant", "content": "Paris"}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp",
        "choices": list(choices) or [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": USAGE,
        **fields,
    }
    outcome = OUTCOME.validate_json(
        Answered(account=ACCOUNT, model="gpt-4o", response=body).model_dump_json()
    )
    assert isinstance(outcome, Answered)
    return QueueChatCompletionResponse.from_outcome(
        outcome, job_id="job", input_messages=[UserMessage(content="Capital of France?")]
    )


def choice(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Paris"}
    return {"index": 0, "finish_reason": "stop", "message": message, **fields}


def test_an_answer_is_cores_response_with_its_account() -> None:
    response = answered()
    assert isinstance(response, ChatCompletionResponse)
    assert response.choices[0].message.content == "Paris"
    assert (response.id, response.model, response.system_fingerprint) == (
        "chatcmpl-1", "gpt-4o-2024-08-06", "fp",
    )  # fmt: skip
    assert (response.job_id, response.worker, response.cost_usd) == ("job", "w1@host", 0.0012)
    assert (response.cached_tokens, response.reasoning_tokens) == (8, 6)
    assert (response.queue_wait_s, response.run_time_s) == (0.25, 1.5)
    assert response.possible_duplicate_charge
    assert [(a.model, a.status, a.run_time_s) for a in response.attempts] == [
        ("gpt-4", "failed", 0.1),
        ("gpt-4o", "ok", 0.9),
    ]
    assert response.input_messages == [UserMessage(content="Capital of France?")]


def test_guilds_know_it_by_cores_name() -> None:
    response = answered()
    assert get_qualified_class_name(type(response)) == get_qualified_class_name(ChatCompletionResponse)
    assert repr(response).startswith("QueueChatCompletionResponse(")


def test_it_can_be_copied_and_pickled() -> None:
    response = answered()
    for copied in (pickle.loads(pickle.dumps(response)), copy.deepcopy(response), response.model_copy()):
        assert type(copied) is QueueChatCompletionResponse
        assert copied == response
    copied.id = "other"
    assert response.id == "chatcmpl-1"


def test_usage_is_as_the_provider_gave_it() -> None:
    usage = answered().usage
    assert usage is not None
    assert usage.total_tokens == 30
    assert usage.model_dump() == USAGE


@pytest.mark.parametrize("given", [None, {}, {"prompt_tokens": None}])
def test_usage_the_provider_did_not_give_is_zero(given: Any) -> None:
    usage = answered(usage=given).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (0, 0, 0)


@pytest.mark.parametrize("reason", list(FinishReason))
def test_a_known_finish_reason_stays(reason: FinishReason) -> None:
    assert answered(choice(finish_reason=reason.value)).choices[0].finish_reason == reason


@pytest.mark.parametrize(
    ("reason", "nearest"),
    [
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
        ("eos_token", "stop"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_an_unknown_finish_reason_becomes_the_nearest_and_is_kept(reason: str | None, nearest: str) -> None:
    given = choice(finish_reason=reason, provider_specific_fields={"stop_sequence": "x"})
    first = answered(given).choices[0]
    assert first.finish_reason == nearest
    assert first.provider_specific_fields == {"finish_reason": reason, "stop_sequence": "x"}


def test_tool_calls_and_several_choices() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Oslo"}'}}
    wanting = choice(finish_reason="tool_calls", message={"role": "assistant", "tool_calls": [call]})
    response = answered(wanting, choice(index=1))
    assert [each.index for each in response.choices] == [0, 1]
    assert response.choices[0].message.content is None
    [made] = response.choices[0].message.tool_calls or []
    assert made.model_dump() == call


def test_a_tool_call_of_a_sloppy_provider_is_mended() -> None:
    call = {"id": None, "type": None, "function": {"name": "find", "arguments": {"city": "Oslo"}}}
    [made] = answered(choice(message={"tool_calls": [call]})).choices[0].message.tool_calls or []
    assert (made.id, made.type, made.function.arguments) == ("call_0", "function", '{"city": "Oslo"}')


def test_reasoning_and_thinking_stay() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
    message = {
        "role": "assistant",
        "content": "Paris",
        "reasoning_content": "Hm",
        "thinking_blocks": [thought, {"type": "redacted_thinking", "data": "x"}],
        "provider_specific_fields": {"citations": [1]},
    }
    got = answered(choice(message=message)).choices[0].message
    assert got.reasoning_content == "Hm"
    assert got.thinking_blocks == message["thinking_blocks"]
    assert got.provider_specific_fields == {"citations": [1]}


def test_what_core_has_no_field_for_is_kept_aside() -> None:
    audio = {"id": "a", "data": "AAAA"}
    got = answered(choice(message={"role": "assistant", "content": None, "audio": audio})).choices[0].message
    assert got.provider_specific_fields == {"audio": audio}


def test_logprobs_are_typed_also_where_a_token_has_no_bytes() -> None:
    alternative = {"token": "Lyon", "logprob": -3.0, "bytes": None}
    token = {"token": "Paris", "logprob": -0.1, "bytes": [80], "top_logprobs": [alternative]}
    bare = {"token": "!", "logprob": -0.2}
    logprobs = answered(choice(logprobs={"content": [token, bare]})).choices[0].logprobs
    assert isinstance(logprobs, ChoiceLogprobs)
    assert logprobs.content is not None
    assert [each.token for each in logprobs.content] == ["Paris", "!"]
    assert logprobs.content[0].top_logprobs[0].token == "Lyon"


def test_text_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]
    assert answered(choice(message={"content": parts})).choices[0].message.content == "Paris"


def test_the_model_is_the_one_that_was_asked_where_the_provider_names_none() -> None:
    assert answered(model=None).model == "gpt-4o"


def test_what_is_no_completion_is_not_taken_for_one() -> None:
    with pytest.raises(ValidationError):
        answered(id=None)


def test_another_resolvers_response_can_be_read_as_ours() -> None:
    plain = ChatCompletionResponse.model_validate(answered().model_dump())
    ours = QueueChatCompletionResponse.model_validate(plain.model_dump())
    assert (ours.job_id, ours.attempts, ours.cost_usd) == (None, [], None)
