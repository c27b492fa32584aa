"""Every model of the contract: what goes in comes out, and what no release could have written is refused."""

import copy
import json
import uuid
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError, create_model

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.budget_state import BudgetState
from rustic_ai.llm_queue.tasks.call import CallKind, CompletionCall, EmbeddingCall, Endpoint, ModelCall
from rustic_ai.llm_queue.tasks.contract import Contract, ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.frames import (
    ChunksFrame,
    FrameId,
    RestartFrame,
    open_frame,
    pack_chunks,
    split_message,
    unpack_chunks,
)
from rustic_ai.llm_queue.tasks.job import PRIORITIES, Job, JobRecord, JobState, check_job_id, open_call
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled, Expired, Failed
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.result import decode_result, encode_result
from rustic_ai.llm_queue.tasks.reuse.cached_answer import CachedAnswer
from rustic_ai.llm_queue.tasks.reuse.cached_vector import CachedVector
from rustic_ai.llm_queue.tasks.reuse.options import ReuseOptions
from rustic_ai.llm_queue.tasks.usage import Usage
from support.callers.json_values import JSON, OBJECT, paths, put

NAME = st.text(min_size=1, max_size=20)
TEXT = st.text(max_size=20)
COUNT = st.integers(min_value=1, max_value=1000)
SECONDS = st.floats(min_value=0, max_value=1e6)
KIND = st.sampled_from(ErrorKind)
OWNER = st.builds(Owner, org=NAME, guild=NAME, agent=NAME)
ENDPOINT = st.builds(
    Endpoint,
    api_key=st.none() | st.builds(SecretStr, TEXT),
    base_url=st.none() | TEXT,
    extra_headers=st.dictionaries(TEXT, TEXT, max_size=2),
)
ATTEMPT = st.builds(
    AttemptRecord,
    number=COUNT,
    epoch=COUNT,
    model=TEXT,
    error=st.none() | KIND,
    run_time_s=st.none() | SECONDS,
    backoff_s=st.none() | SECONDS,
)
ERROR = st.builds(ErrorEnvelope, kind=KIND, message=TEXT, retry_after_s=st.none() | SECONDS)
USAGE = st.builds(
    Usage,
    prompt_tokens=st.none() | COUNT,
    cached_tokens=st.none() | COUNT,
    cost_usd=st.none() | SECONDS,
    usage_estimated=st.booleans(),
)
ACCOUNT = st.builds(
    Account,
    attempts=st.lists(ATTEMPT, max_size=2).map(tuple),
    queue_wait_s=SECONDS,
    run_time_s=SECONDS,
    cost_usd=st.none() | SECONDS,
)
COMPLETION_JOB = st.builds(
    Job,
    id=st.uuids().map(str),
    owner=OWNER,
    model=NAME,
    queue=NAME,
    priority=st.sampled_from(PRIORITIES),
    timeout_ms=COUNT,
    stream_ttl_s=st.none() | SECONDS,
    estimated_tokens=COUNT,
    traceparent=TEXT,
    request=NAME,
    fingerprints=NAME,
)
EMBEDDING_JOB = st.builds(
    lambda job, count: job.model_copy(update={"kind": CallKind.EMBEDDING, "text_count": count}),
    COMPLETION_JOB,
    COUNT,
)
JOB = COMPLETION_JOB | EMBEDDING_JOB
MODELS: dict[type[Contract], st.SearchStrategy[Any]] = {
    Owner: OWNER,
    Usage: USAGE,
    Endpoint: ENDPOINT,
    CompletionCall: st.builds(
        CompletionCall,
        model=NAME,
        params=OBJECT,
        endpoint=ENDPOINT,
        endpoint_model=st.none() | NAME,
        max_retries=st.integers(min_value=0, max_value=100),
    ),
    EmbeddingCall: st.builds(
        EmbeddingCall,
        model=NAME,
        texts=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
        params=OBJECT,
        endpoint=ENDPOINT,
    ),
    ReuseOptions: st.builds(ReuseOptions),
    BudgetState: st.builds(
        BudgetState,
        name=NAME,
        unit=st.sampled_from(["usd", "tokens"]),
        spent=SECONDS,
        held=SECONDS,
        limit=SECONDS,
        resets_at=st.none() | SECONDS,
    ),
    CachedAnswer: st.builds(CachedAnswer, made_ms=COUNT, model=TEXT, response=OBJECT, usage=USAGE),
    AttemptRecord: ATTEMPT,
    ErrorEnvelope: ERROR,
    CachedVector: st.builds(
        CachedVector,
        made_ms=COUNT,
        model=TEXT,
        vector=TEXT,
        prompt_tokens=st.none() | COUNT,
        cost_usd=st.none() | SECONDS,
    ),
    Account: ACCOUNT,
    Answered: st.builds(Answered, account=ACCOUNT, model=TEXT, response=OBJECT),
    Failed: st.builds(Failed, account=ACCOUNT, error=ERROR),
    Cancelled: st.builds(Cancelled, account=ACCOUNT),
    Expired: st.builds(Expired, account=ACCOUNT),
    Job: JOB,
    JobRecord: st.builds(
        JobRecord,
        job=JOB,
        state=st.sampled_from(JobState),
        created_ms=COUNT,
        deadline_ms=COUNT,
        epoch=COUNT,
        started_ms=st.none() | COUNT,
        claimed_ms=st.none() | COUNT,
        ended_ms=st.none() | COUNT,
        attempts_begun=COUNT,
        attempts=st.lists(ATTEMPT, max_size=2).map(tuple),
        handbacks=COUNT,
    ),
    ChunksFrame: st.builds(
        ChunksFrame, epoch=COUNT, seq=COUNT, chunks=st.lists(OBJECT, max_size=2).map(tuple)
    ),
    RestartFrame: st.builds(RestartFrame, epoch=COUNT, seq=COUNT, reason=KIND, model=TEXT),
}
OPEN = Sealer(KeyRing({}))
HERE = Owner(org="o", guild="g", agent="a")
ID = str(uuid.UUID(int=1))
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def models(base: type[Contract]) -> Iterator[type[Contract]]:
    for model in base.__subclasses__():
        yield from models(model)
        # What both kinds of call have in common never travels by itself.
        if not model.__name__.startswith("_") and model is not ModelCall:
            yield model


def test_every_model_is_among_these() -> None:
    assert set(models(Contract)) == set(MODELS)


@EACH_MODEL
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(model: type[Contract], data: st.DataObject) -> None:
    value = data.draw(MODELS[model])
    assert model.model_validate_json(value.model_dump_json()) == value
    assert model.model_validate_json(value.model_dump_json(exclude_defaults=True)) == value


@EACH_MODEL
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_changed_document_is_refused_or_means_what_it_says(
    model: type[Contract], data: st.DataObject
) -> None:
    document = json.loads(data.draw(MODELS[model]).model_dump_json())
    changed = copy.deepcopy(document)
    path = data.draw(st.sampled_from(paths(changed)))
    put(changed, path, data.draw(JSON))
    try:
        value = model.model_validate_json(json.dumps(changed))
    except ValidationError:
        return
    # What was taken says the same when it is written down and read again.
    assert model.model_validate_json(value.model_dump_json()) == value


@EACH_MODEL
@given(data=st.data(), name=st.text(min_size=1, max_size=8), junk=JSON)
@settings(max_examples=40, deadline=None)
def test_a_field_nobody_knows_is_refused(
    model: type[Contract], data: st.DataObject, name: str, junk: Any
) -> None:
    document = json.loads(data.draw(MODELS[model]).model_dump_json())
    if name not in document:
        with pytest.raises(ValidationError, match="extra"):
            model.model_validate_json(json.dumps({**document, name: junk}))


def float_fields() -> Iterator[tuple[type[Contract], str]]:
    for model in sorted(MODELS, key=lambda model: model.__name__):
        for name, field in model.model_fields.items():
            if float in _parts(field.annotation):
                yield model, name


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


@pytest.mark.parametrize(("model", "name"), [*float_fields()], ids=str)
def test_a_number_that_is_no_amount_is_refused_or_unknown(model: type[Contract], name: str) -> None:
    annotation: Any = model.model_fields[name].annotation
    field = create_model("OneField", value=(annotation, model.model_fields[name]))
    for text in ("1" + "0" * 309, "-1", "-1" + "0" * 309, "1e308", "1e999", "Infinity", "-Infinity", "NaN"):
        try:
            read = field.model_validate_json(f'{{"value": {text}}}')
        except ValidationError:
            continue
        assert vars(read) == {"value": None}, f"{model.__name__}.{name} took {text}"
    assert vars(field.model_validate_json('{"value": 1.5}')) == {"value": 1.5}


@EACH_MODEL
@given(junk=JSON)
@settings(max_examples=40, deadline=None)
def test_any_other_document_is_refused(model: type[Contract], junk: Any) -> None:
    adapter = TypeAdapter(model)
    try:
        value = adapter.validate_json(json.dumps(junk))
    except ValidationError:
        return
    # Only a model that has a default for everything takes an empty object.
    assert junk == {}
    assert value == model()


@given(job=JOB, state=st.sampled_from(JobState))
@settings(max_examples=200, deadline=None)
def test_a_record_comes_back_from_redis_as_it_went(job: Job, state: JobState) -> None:
    progress = {"state": state.value, "created_ms": "1", "deadline_ms": "2", "epoch": "0"}
    assert JobRecord.from_hash({**job.to_hash(), **progress}).job == job


HOSTILE = st.sampled_from(
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        "1e999",
        "NaN",
        "null",
        "-1",
        "0",
        "\x00",
        "²",
        "{}",
        "[]",
    ]
)


@given(data=st.data(), job=JOB)
@settings(max_examples=1_500, deadline=None)
def test_a_record_of_anything_is_a_record_or_a_violation(data: st.DataObject, job: Job) -> None:
    progress = {"state": "queued", "created_ms": "1", "deadline_ms": "2", "attempts": "[]", "epoch": "1"}
    fields = {**job.to_hash(), **progress}
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*fields, "attempts_begun", "handbacks", "worker"]) | TEXT)
        fields[name] = data.draw(HOSTILE | TEXT | JSON.map(json.dumps))
    try:
        record = JobRecord.from_hash(fields)
    except ContractViolation:
        return
    assert record.attempts_begun <= 10_000, "a worker counts up to it"
    assert (record.deadline_ms - record.created_ms) / 1000 < 1e13, "it is reckoned with as a float"


@given(raw=HOSTILE | TEXT | JSON.map(json.dumps))
@settings(max_examples=1_000, deadline=None)
def test_a_result_frame_or_message_of_anything_is_a_violation(raw: str) -> None:
    for read in (
        lambda: decode_result(raw, job_id=ID, owner=HERE, sealer=OPEN),
        lambda: decode_result(_with(raw), job_id=ID, owner=HERE, sealer=OPEN),
        lambda: open_frame(raw, FrameId(1, 1), job_id=ID, owner=HERE, sealer=OPEN),
        lambda: open_frame(f"plain:{raw}", FrameId(1, 1), job_id=ID, owner=HERE, sealer=OPEN),
    ):
        with pytest.raises(ContractViolation):
            read()
    for message in (raw, f"{raw}-{raw}:x"):
        try:
            place, _ = split_message(message)
        except ContractViolation:
            continue
        assert place.epoch < 2**64


def _with(version: str) -> str:
    return f'{{"v": {version}, "sealed": "plain:{{}}"}}'


@given(data=st.data(), raw=JSON)
@settings(max_examples=300, deadline=None)
def test_an_outcome_with_a_changed_part_is_refused_or_means_what_it_says(
    data: st.DataObject, raw: Any
) -> None:
    ended = data.draw(st.one_of(*(MODELS[kind] for kind in (Answered, Failed, Cancelled, Expired))))
    meta = json.loads(encode_result(ended, job_id=ID, owner=HERE, sealer=OPEN))
    assert decode_result(json.dumps(meta), job_id=ID, owner=HERE, sealer=OPEN).outcome == ended
    body = json.loads(meta["sealed"].removeprefix("plain:"))
    put(body, data.draw(st.sampled_from(paths(body))), raw)
    meta["sealed"] = "plain:" + json.dumps(body)
    try:
        read = decode_result(json.dumps(meta), job_id=ID, owner=HERE, sealer=OPEN)
    except ContractViolation:
        return
    again = encode_result(read.outcome, job_id=ID, owner=HERE, sealer=OPEN, epoch=read.epoch)
    assert decode_result(again, job_id=ID, owner=HERE, sealer=OPEN) == read


@given(chunks=st.lists(OBJECT, max_size=5))
@settings(max_examples=300, deadline=None)
def test_chunks_unpack_to_what_was_packed(chunks: list[dict[str, Any]]) -> None:
    wholly = [{"id": "1", "object": "chunk", "created": 1, "model": "m", **chunk} for chunk in chunks]
    assert unpack_chunks(pack_chunks(wholly)) == wholly


@given(junk=JSON | st.uuids().map(lambda one: f"{one}\n") | st.uuids().map(lambda one: f"{one}x"))
@settings(max_examples=300, deadline=None)
def test_a_job_id_that_is_no_uuid_is_refused(junk: Any) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        check_job_id(junk)


def test_a_violation_stays_short_whatever_names_it_meets() -> None:
    body = json.dumps({"model": "m", "params": {}, "x" * 100_000: 1})
    job = Job(id=ID, owner=HERE, model="m", queue="q", timeout_ms=1, request=f"plain:{body}", fingerprints="")
    with pytest.raises(ContractViolation) as caught:
        open_call(job, OPEN)
    assert len(str(caught.value)) < 1_000
    meta = json.dumps({"v": 1, "sealed": "plain:" + json.dumps({"kind": "expired", "y" * 100_000: 1})})
    with pytest.raises(ContractViolation) as caught:
        decode_result(meta, job_id=ID, owner=HERE, sealer=OPEN)
    assert len(str(caught.value)) < 1_000


NUMBERS = ["created_ms", "deadline_ms", "epoch", "started_ms", "claimed_ms", "ended_ms", "attempts_begun",
           "handbacks", "timeout_ms", "estimated_tokens"]  # fmt: skip


@pytest.mark.parametrize("value", ["9" * 400, str(2**53 + 1), "-1", "1.5", "1e999", "x"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_reckoned_with_is_a_violation(name: str, value: str) -> None:
    job = Job(id=ID, owner=HERE, model="m", queue="q", timeout_ms=1, request="x", fingerprints="x")
    fields = {**job.to_hash(), "state": "queued", "created_ms": "1", "deadline_ms": "2"}
    assert JobRecord.from_hash(fields)
    with pytest.raises(ContractViolation, match=name):
        JobRecord.from_hash({**fields, name: value})
