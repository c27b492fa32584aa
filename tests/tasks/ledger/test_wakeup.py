"""Nothing but a wake-up of ours gets past the check of messages."""

import base64
import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rustic_ai.llm_queue.worker.broker.messages import InvalidMessage, parse_broadcast, parse_wakeup
from support.callers.malformed import (
    CANARY,
    TASK,
    command,
    malformed_commands,
    malformed_messages,
    wakeup,
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def test_a_wakeup_is_rebuilt_from_what_was_checked() -> None:
    job_id = str(uuid.uuid4())
    sent = wakeup(
        job_id, headers={"traceparent": "00-1-2-03", "unknown": {"a": 1}}, properties={"priority": 6}
    )

    envelope = parse_wakeup(json.dumps(sent).encode(), "llm")

    assert json.loads(base64.b64decode(envelope["body"])) == [
        [job_id],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert envelope["headers"]["task"] == TASK
    assert envelope["headers"]["argsrepr"] == "model=test"
    assert envelope["headers"]["traceparent"] == "00-1-2-03"
    assert "unknown" not in envelope["headers"]
    assert envelope["properties"]["priority"] == 6


def test_a_long_description_is_shortened_instead_of_losing_the_job() -> None:
    envelope = parse_wakeup(json.dumps(wakeup(headers={"argsrepr": "x" * 20_000})).encode(), "llm")

    assert len(envelope["headers"]["argsrepr"]) == 4_000


@pytest.mark.parametrize("raw", malformed_messages().values(), ids=malformed_messages())
def test_a_malformed_message_is_refused_without_being_quoted(raw: bytes) -> None:
    with pytest.raises(InvalidMessage) as refused:
        parse_wakeup(raw, "llm")

    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("raw", malformed_commands().values(), ids=malformed_commands())
def test_a_malformed_command_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse_broadcast(raw, "celery.pidbox")


def test_a_command_passes_as_it_is() -> None:
    sent = command("revoke", body={"arguments": {"task_id": "x", "terminate": True}})

    envelope = parse_broadcast(json.dumps(sent).encode(), "celery.pidbox")

    assert envelope["body"] == sent["body"]
    assert envelope["headers"]["clock"] == 1


@given(st.binary(max_size=400))
@settings(max_examples=1_000, deadline=None)
def test_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse_wakeup(raw, "llm")


@given(st.data())
@settings(max_examples=2_000, deadline=None)
def test_a_field_of_any_value_is_refused_or_does_no_harm(data: st.DataObject) -> None:
    job_id = str(uuid.uuid4())
    sent: dict[str, Any] = wakeup(job_id)
    part = data.draw(st.sampled_from([sent, sent["headers"], sent["properties"]]))
    name = data.draw(st.sampled_from(sorted(part)) | st.text(max_size=10))
    part[name] = data.draw(_JSON)

    try:
        envelope = parse_wakeup(json.dumps(sent).encode(), "llm")
    except InvalidMessage:
        return

    assert json.loads(base64.b64decode(envelope["body"]))[:2] == [[job_id], {}]
    assert envelope["headers"]["id"] == job_id
    assert envelope["headers"]["timelimit"] == [None, None]
    assert envelope["headers"]["eta"] is None
    assert isinstance(envelope["headers"]["argsrepr"], str)


@given(st.integers(min_value=0, max_value=3_000), st.integers(min_value=0, max_value=7))
@settings(max_examples=1_000, deadline=None)
def test_a_flipped_bit_is_refused_or_does_no_harm(position: int, bit: int) -> None:
    job_id = "6f0c9f6e-0f4c-4c53-9d1e-0123456789ab"
    raw = bytearray(json.dumps(wakeup(job_id)).encode())
    raw[position % len(raw)] ^= 1 << bit

    try:
        envelope = parse_wakeup(bytes(raw), "llm")
    except InvalidMessage:
        return

    assert envelope["headers"]["id"] == job_id
