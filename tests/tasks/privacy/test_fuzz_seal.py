"""Nothing but what was sealed, where it was sealed for, opens: thousands of ways to alter it."""

import base64
import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.job import Job, open_call
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Purpose, Sealer, SealError, make_key

CURRENT, FORMER, FOREIGN = make_key(), make_key(), make_key()
SEALER = Sealer(KeyRing.parse(f"{CURRENT},{FORMER}"))
OWNER = Owner(org="acme", guild="support", agent="helper")
JOB = str(uuid.UUID(int=7))
HERE: dict[str, Any] = {"purpose": Purpose.REQUEST, "job_id": JOB, "owner": OWNER}
TEXT = '{"model": "m", "params": {"messages": [{"role": "user", "content": "canary"}]}}'
SEALED = SEALER.seal(TEXT, **HERE)

TEXTS = st.text(max_size=40)
NAMES = st.text(min_size=1, max_size=12)
PLACES = st.fixed_dictionaries(
    {
        "purpose": st.sampled_from(Purpose),
        "job_id": st.uuids().map(str),
        "owner": st.builds(Owner, org=NAMES, guild=NAMES, agent=NAMES),
    }
)


def assert_does_not_open(sealed: str, sealer: Sealer = SEALER, **place: Any) -> None:
    with pytest.raises(SealError) as caught:
        sealer.open(sealed, **{**HERE, **place})
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 200


@given(text=TEXTS, place=PLACES)
@settings(max_examples=1_000, deadline=None)
def test_what_was_sealed_opens_in_its_place(text: str, place: dict[str, Any]) -> None:
    assert SEALER.open(SEALER.seal(text, **place), **place, max_age=timedelta(minutes=1)) == text


@given(text=TEXTS, here=PLACES, there=PLACES)
@settings(max_examples=1_000, deadline=None)
def test_what_was_moved_does_not_open(text: str, here: dict[str, Any], there: dict[str, Any]) -> None:
    if here != there:
        assert_does_not_open(SEALER.seal(text, **here), **there)


@given(position=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 6))
@settings(max_examples=1_500, deadline=None)
def test_a_flipped_bit_of_the_text_does_not_open(position: int, bit: int) -> None:
    flipped = chr(ord(SEALED[position]) ^ (1 << bit))
    assert_does_not_open(SEALED[:position] + flipped + SEALED[position + 1 :])


@given(data=st.data())
@settings(max_examples=1_500, deadline=None)
def test_flipped_bits_of_the_cipher_text_do_not_open(data: st.DataObject) -> None:
    head, _, encoded = SEALED.rpartition(":")
    blob = bytearray(base64.b64decode(encoded))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if bytes(blob) != base64.b64decode(encoded):
        assert_does_not_open(f"{head}:{base64.b64encode(blob).decode()}")


@given(start=st.integers(0, len(SEALED)), end=st.integers(0, len(SEALED)), middle=st.text(max_size=8))
@settings(max_examples=1_500, deadline=None)
def test_what_was_cut_or_written_into_does_not_open(start: int, end: int, middle: str) -> None:
    altered = SEALED[:start] + middle + SEALED[end:]
    if altered != SEALED:
        assert_does_not_open(altered)


@given(junk=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=500, deadline=None)
def test_junk_does_not_open(junk: str) -> None:
    for text in (junk, f"plain:{junk}", f"aes256gcm:{junk}", f"aes256gcm:{CURRENT[:9]}:1:{junk}"):
        assert_does_not_open(text)


@given(text=TEXTS, place=PLACES, age_s=st.integers(2, 10**9))
@settings(max_examples=500, deadline=None)
def test_what_is_replayed_late_does_not_open(text: str, place: dict[str, Any], age_s: int) -> None:
    sealed = SEALER.seal(text, **place)
    with pytest.raises(SealError, match="stale"):
        SEALER.open(sealed, **place, max_age=timedelta(seconds=-age_s))


@given(text=TEXTS, place=PLACES)
@settings(max_examples=500, deadline=None)
def test_keys_old_and_foreign(text: str, place: dict[str, Any]) -> None:
    former = Sealer(KeyRing.parse(FORMER)).seal(text, **place)
    assert SEALER.open(former, **place) == text
    for keys in (CURRENT, FOREIGN, f"{FORMER.partition(':')[0]}:{FOREIGN.partition(':')[2]}"):
        assert_does_not_open(former, Sealer(KeyRing.parse(keys)), **place)
    assert_does_not_open(former, Sealer(KeyRing({})), **place)


@given(body=st.text(max_size=60) | st.sampled_from(["[" * 100_000, '{"model":' * 50_000, "9" * 5_000]))
@settings(max_examples=500, deadline=None)
def test_a_request_of_anything_is_a_violation_even_when_well_sealed(body: str) -> None:
    job = Job(
        id=JOB, owner=OWNER, model="m", queue="q", timeout_ms=1,
        request=SEALER.seal(body, **HERE), fingerprints="",
    )  # fmt: skip
    with pytest.raises(ContractViolation):
        open_call(job, SEALER)
