"""What comes over a control channel is a command of a known form, or refused."""

import base64
import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from rustic_ai.llm_queue.worker.broker.messages import InvalidMessage, parse_broadcast
from support.callers.json_values import JSON, paths, put
from support.callers.malformed import command, encode

EXCHANGES = st.sampled_from(["celery.pidbox", "reply.celery.pidbox", "celeryev"])
COMMAND = command("revoke", body={"arguments": {"task_id": "x"}, "reply_to": None})


def assert_harmless(raw: bytes, exchange: str) -> None:
    try:
        envelope = parse_broadcast(raw, exchange)
    except InvalidMessage:
        return
    assert envelope["content-type"] == "application/json"
    assert isinstance(envelope["properties"]["delivery_tag"], str)
    assert 0 <= (envelope["headers"].get("clock") or 0) < 2**62
    # What kombu does with it next must not fail.
    body = kombu_json.loads(base64.b64decode(envelope["body"]).decode())
    if exchange == "celery.pidbox":
        assert isinstance(body["method"], str)
        assert isinstance(body.get("arguments") or {}, dict)


@given(raw=st.binary(max_size=300), exchange=EXCHANGES)
@settings(max_examples=500, deadline=None)
def test_bytes(raw: bytes, exchange: str) -> None:
    assert_harmless(raw, exchange)


@given(data=st.data(), exchange=EXCHANGES)
@settings(max_examples=800, deadline=None)
def test_an_envelope_with_a_part_of_any_value(data: st.DataObject, exchange: str) -> None:
    sent = copy.deepcopy(COMMAND)
    put(sent, data.draw(st.sampled_from(paths(sent))), data.draw(JSON))
    assert_harmless(json.dumps(sent).encode(), exchange)


@given(data=st.data(), exchange=EXCHANGES)
@settings(max_examples=800, deadline=None)
def test_a_body_with_a_part_of_any_value(data: st.DataObject, exchange: str) -> None:
    body: dict[str, Any] = json.loads(base64.b64decode(COMMAND["body"]))
    put(body, data.draw(st.sampled_from([*paths(body), ("new",)])), data.draw(JSON))
    assert_harmless(json.dumps({**COMMAND, "body": encode(body)}).encode(), exchange)


@given(position=st.integers(0, 2_000), bit=st.integers(0, 7), exchange=EXCHANGES)
@settings(max_examples=800, deadline=None)
def test_a_flipped_bit(position: int, bit: int, exchange: str) -> None:
    raw = bytearray(json.dumps(COMMAND).encode())
    raw[position % len(raw)] ^= 1 << bit
    assert_harmless(bytes(raw), exchange)
