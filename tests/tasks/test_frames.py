"""A stream's log in the ledger: fenced, in order, with a TTL, ended with its job."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import (
    START,
    ChunksFrame,
    EndFrame,
    FrameId,
    RestartFrame,
    open_frame,
    pack_chunks,
    seal_frame,
    split_message,
    unpack_chunks,
)
from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer, make_key
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, a_job

#: Jobs are left running.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines")

META = '{"status":"SUCCESS"}'
TTL = timedelta(minutes=10)


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, result_ttl=TTL)


async def running(ledger: Ledger, **changes: Any) -> Job:
    job = a_job(**{"stream": True, "stream_ttl_s": 100.0, **changes})
    await ledger.submit(job)
    await take(ledger, job)
    return job


async def take(ledger: Ledger, job: Job, lease: timedelta = timedelta(seconds=15)) -> int:
    claim = await ledger.claim(job.id, worker="w", token=uuid.uuid4().hex, lease=lease, most_losses=3)
    assert claim.verdict == "granted"
    return claim.epoch


async def frames(ledger: Ledger, job: Job) -> list[tuple[FrameId, str]]:
    return await ledger.frames(job.id, after=START, most=100)


async def test_frames_stand_in_the_log_and_go_out_live(ledger: Ledger, redis: Redis) -> None:
    job = await running(ledger)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.stream_channel(job.id))
        assert await pubsub.get_message(timeout=5) is None
        for seq in (1, 2):
            assert await ledger.emit(job.id, FrameId(1, seq), f"f{seq}")
        await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
        heard = [await pubsub.get_message(timeout=5) for _ in range(3)]
    assert [split_message(one["data"]) for one in heard if one] == await frames(ledger, job)
    assert await frames(ledger, job) == [((1, 1), "f1"), ((1, 2), "f2"), ((1, 3), "end:answered")]
    assert await ledger.frames(job.id, after=FrameId(1, 1), most=1) == [((1, 2), "f2")]


async def test_a_frame_sent_again_stands_there_once(ledger: Ledger, redis: Redis) -> None:
    job = await running(ledger)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.stream_channel(job.id))
        assert await pubsub.get_message(timeout=5) is None
        for frame in ("first", "first", "first"):
            assert await ledger.emit(job.id, FrameId(1, 1), frame)
        await ledger.emit(job.id, FrameId(1, 2), "second")
        assert [(await pubsub.get_message(timeout=5) or {})["data"] for _ in range(2)] == [
            "1-1:first",
            "1-2:second",
        ]
    assert await frames(ledger, job) == [((1, 1), "first"), ((1, 2), "second")]


async def test_a_worker_that_lost_its_lease_writes_no_frame(ledger: Ledger) -> None:
    job = await running(ledger)
    await ledger.hand_back(job.id, 1, begun=1, ended=(), call_under_way=True)
    assert not await ledger.emit(job.id, FrameId(1, 1), "late")
    assert await take(ledger, job) == 2
    assert not await ledger.emit(job.id, FrameId(1, 2), "later")
    assert await ledger.emit(job.id, FrameId(2, 1), "the winner's")
    await ledger.finish(job.id, 2, JobState.ANSWERED, META, attempts=())
    assert not await ledger.emit(job.id, FrameId(2, 2), "after the end")
    assert await frames(ledger, job) == [((2, 1), "the winner's"), ((2, 2), "end:answered")]


async def test_what_a_restart_voids_is_dropped(ledger: Ledger) -> None:
    job = await running(ledger)
    for seq in (1, 2):
        await ledger.emit(job.id, FrameId(1, seq), "void")
    await ledger.emit(job.id, FrameId(1, 3), "restart", void_before=True)
    await ledger.emit(job.id, FrameId(1, 4), "anew")
    assert await frames(ledger, job) == [((1, 3), "restart"), ((1, 4), "anew")]


async def test_a_log_outlives_its_job_by_its_ttl(ledger: Ledger, redis: Redis) -> None:
    job = await running(ledger)
    log = keys.stream_log_key(job.id)
    await ledger.emit(job.id, FrameId(1, 1), "f")
    assert 100_000 < await redis.pttl(log) <= 160_000
    await redis.persist(log)
    await ledger.emit(job.id, FrameId(1, 2), "f")
    assert await redis.pttl(log) > 0, "no log without a TTL"
    await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
    assert 90_000 < await redis.pttl(log) <= 100_000


@pytest.mark.parametrize("stream_ttl_s", [None, 0.5])
async def test_a_ttl_may_be_left_out_or_be_a_fraction(
    ledger: Ledger, redis: Redis, stream_ttl_s: float | None
) -> None:
    job = await running(ledger, stream_ttl_s=stream_ttl_s)
    await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
    assert 0 < await redis.pttl(keys.stream_log_key(job.id)) <= (stream_ttl_s or 600) * 1000


async def test_every_way_to_end_ends_the_stream(ledger: Ledger) -> None:
    cancelled = await running(ledger)
    await ledger.hand_back(cancelled.id, 1, begun=0, ended=(), call_under_way=False)
    await ledger.cancel(cancelled.id, by="caller", meta=META)
    lost = await running(ledger, on_worker_loss="fail")
    await ledger.emit(lost.id, FrameId(1, 1), "f")
    await ledger.renew({lost.id: 1}, lease=timedelta(0))
    assert await ledger.conclude(lost.id, 1, JobState.FAILED, META, dead=True)
    assert [frame for _, frame in await frames(ledger, cancelled)] == ["end:cancelled"]
    assert [frame for _, frame in await frames(ledger, lost)] == ["f", "end:failed"]

    await ledger.replay(lost.id)
    assert await frames(ledger, lost) == []
    assert await take(ledger, lost) == 2


async def test_a_job_that_is_no_stream_leaves_no_log(ledger: Ledger, redis: Redis) -> None:
    job = await running(ledger, stream=False)
    await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=())
    assert not await redis.exists(keys.stream_log_key(job.id))


@pytest.mark.parametrize("planted", ["text", "ids"])
async def test_a_broken_log_does_not_keep_its_job_from_ending(
    ledger: Ledger, redis: Redis, planted: str
) -> None:
    job = await running(ledger)
    log = keys.stream_log_key(job.id)
    await (redis.set(log, "no log") if planted == "text" else redis.xadd(log, {"f": "x"}, id="9999-1"))
    with pytest.raises(ResponseError):
        await ledger.emit(job.id, FrameId(1, 1), "f")
    assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "done"
    assert [frame for _, frame in await frames(ledger, job)] == ["end:answered"]


async def test_a_full_redis_takes_no_frame_and_ends_the_job_all_the_same() -> None:
    with ValkeyServer() as server:
        async with Redis.from_url(server.url, decode_responses=True) as redis:
            ledger = Ledger(redis, result_ttl=TTL)
            job = await running(ledger)
            await redis.config_set("maxmemory", "1mb")
            with pytest.raises(OutOfMemoryError):
                await ledger.emit(job.id, FrameId(1, 1), "f")
            assert await ledger.finish(job.id, 1, JobState.ANSWERED, META, attempts=()) == "done"


def test_a_frame_opens_only_at_its_place() -> None:
    sealer = Sealer(KeyRing.parse(make_key()))
    about: Any = {"job_id": "j", "owner": OWNER, "sealer": sealer}
    frame = RestartFrame(epoch=1, seq=2, reason=ErrorKind.CONNECTION, model="gpt-4")
    raw = seal_frame(frame.model_dump_json(), **about)
    assert "gpt-4" not in raw
    assert open_frame(raw, FrameId(1, 2), **about) == frame
    for at in (FrameId(1, 3), FrameId(2, 2)):
        with pytest.raises(ContractViolation, match="1-2"):
            open_frame(raw, at, **about)
    with pytest.raises(ContractViolation):
        open_frame(raw, FrameId(1, 2), **about | {"job_id": "another"})
    with pytest.raises(ContractViolation):
        open_frame('plain:{"kind":"chunks","epoch":1,"seq":1,"chunks":[]}', FrameId(1, 1), **about)
    assert open_frame("end:failed", FrameId(1, 3), **about) == EndFrame(JobState.FAILED)


@pytest.mark.parametrize(
    "raw", ["end:", "end:nonsense", "plain:{", 'plain:{"kind":"chunks"}', "plain:[]", "x"]
)
def test_what_is_no_frame_is_a_violation(raw: str) -> None:
    with pytest.raises(ContractViolation):
        open_frame(raw, FrameId(1, 1), job_id="j", owner=OWNER, sealer=Sealer(KeyRing({})))


@pytest.mark.parametrize("message", ["", "x", "1:f", "1-:f", "-1:f", "1-x:f", "²-1:f"])
def test_a_message_without_a_place_is_a_violation(message: str) -> None:
    with pytest.raises(ContractViolation):
        split_message(message)


CHUNKS = st.fixed_dictionaries(
    {
        "id": st.sampled_from("ab"),
        "model": st.sampled_from("mn"),
        "object": st.just("chat.completion.chunk"),
        "created": st.integers(0, 1),
        "choices": st.lists(st.just({"index": 0})),
    },
    optional={"usage": st.just({"prompt_tokens": 1})},
)


@given(st.lists(CHUNKS))
def test_packed_chunks_come_out_as_they_were(chunks: list[dict[str, Any]]) -> None:
    packed = pack_chunks(chunks)
    assert unpack_chunks(ChunksFrame(epoch=1, seq=1, chunks=packed).chunks) == chunks
