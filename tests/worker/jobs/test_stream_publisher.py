"""A worker's frames: what goes out when, and what becomes of them when Redis does not take them."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import (
    START,
    ChunksFrame,
    Frame,
    RestartFrame,
    open_frame,
    unpack_chunks,
)
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer, make_key
from rustic_ai.llm_queue.worker.jobs.execution import Execution, StopReason
from rustic_ai.llm_queue.worker.jobs.standstill import Standstill
from rustic_ai.llm_queue.worker.jobs.streaming.frame_buffer import FrameBuffer
from rustic_ai.llm_queue.worker.jobs.streaming.publisher import StreamPublisher
from rustic_ai.llm_queue.worker.jobs.take_back import TakeBack
from rustic_ai.llm_queue.worker.provider.failures.classify import StreamTooLarge
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.processes.wait import async_wait_until
from support.servers.valkey import ValkeyServer

#: The jobs are left running.
pytestmark = pytest.mark.leaves_keys("llm", "llmq:leases", "llmq:deadlines", "llmq:queued:*")

OWNER = Owner(org="acme", guild="support", agent="helper")
SEALER = Sealer(KeyRing.parse(make_key()))


def chunk(
    text: str | None = None, *, choice: int = 0, reason: str | None = None, **delta: Any
) -> dict[str, Any]:
    if text is not None:
        delta["content"] = text
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": choice, "delta": delta, "finish_reason": reason}],
    }


class Bench:
    """A claimed job, and what stands in its log."""

    def __init__(self, redis: Redis, settings: WorkerSettings) -> None:
        self.redis, self.settings = redis, settings
        self.ledger = Ledger(redis, result_ttl=timedelta(minutes=5))
        self.job = Job(
            id=str(uuid.uuid4()),
            owner=OWNER,
            model="m",
            queue="llm",
            timeout_ms=60_000,
            stream=True,
            request="",
            fingerprints="plain:1",
        )
        self.execution = Execution(self.job.id, worker="w")

    async def claim(self) -> None:
        await self.ledger.submit(self.job)
        claim = await self.ledger.claim(
            self.job.id, worker="w", token="t", lease=timedelta(seconds=60), most_losses=1
        )
        self.execution.claimed(claim)

    def publisher(self) -> StreamPublisher:
        take_back = TakeBack(self.ledger, SEALER, self.settings.lease, Standstill(self.settings.lease))
        return StreamPublisher(
            self.job,
            self.execution,
            ledger=self.ledger,
            sealer=SEALER,
            take_back=take_back,
            settings=self.settings,
        )

    async def frames(self) -> list[Frame]:
        entries = await self.ledger.frames(self.job.id, after=START, most=10_000)
        return [open_frame(raw, at, job_id=self.job.id, owner=OWNER, sealer=SEALER) for at, raw in entries]

    async def texts(self) -> list[str]:
        """The text of each frame; a restart by its reason."""
        return [text_of(frame) for frame in await self.frames()]

    async def said(self, expected: list[str]) -> None:
        async def so() -> bool:
            return await self.texts() == expected

        await async_wait_until(so, 5, f"the frames {expected}")


def text_of(frame: Frame) -> str:
    match frame:
        case ChunksFrame(chunks=chunks):
            return "".join(
                choice["delta"].get("content", "")
                for one in unpack_chunks(chunks)
                for choice in one["choices"]
            )
        case RestartFrame(reason=reason):
            return f"<{reason}>"
        case _:
            return "<end>"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url, outage_s=60) as client:
        yield client


#: Long enough that nothing goes out for the time that has passed.
GATHERING = {"stream_flush": "1h"}


async def bench(redis: Redis, **settings: Any) -> Bench:
    made = Bench(redis, WorkerSettings(**settings))
    await made.claim()
    return made


async def test_the_first_text_goes_out_at_once_and_the_rest_gathers(redis: Redis) -> None:
    at = await bench(redis, **GATHERING)
    async with at.publisher() as publisher:
        await publisher.chunk(chunk(role="assistant"))
        assert await at.texts() == [], "who speaks is not worth a frame"
        await publisher.chunk(chunk("first"))
        await at.said(["first"])
        for word in ("then ", "more ", "words"):
            await publisher.chunk(chunk(word))
            assert await at.texts() == ["first"]
    assert await at.texts() == ["first", "then more words"]


async def test_a_kilobyte_does_not_wait_for_the_time(redis: Redis) -> None:
    at = await bench(redis, stream_flush_bytes=1000, **GATHERING)
    async with at.publisher() as publisher:
        await publisher.chunk(chunk("a"))
        await at.said(["a"])
        await publisher.chunk(chunk("b" * 500))
        await publisher.chunk(chunk("c" * 500))
        await at.said(["a", "b" * 500 + "c" * 500])


async def test_what_has_gathered_goes_out_when_its_time_is_up(redis: Redis) -> None:
    at = await bench(redis, stream_flush="50ms")
    async with at.publisher() as publisher:
        await publisher.chunk(chunk("a"))
        await at.said(["a"])
        await publisher.chunk(chunk("b"))
        await publisher.chunk(chunk("c"))
        await at.said(["a", "bc"])


async def test_a_restart_drops_what_waits_and_tells_who_has_seen_some(redis: Redis) -> None:
    at = await bench(redis, **GATHERING)
    async with at.publisher() as publisher:
        await publisher.chunk(chunk("void"))
        await at.said(["void"])
        await publisher.chunk(chunk("never seen"))
        await publisher.restart(ErrorKind.CONNECTION, "other")
        await at.said(["<connection>"])
        await publisher.chunk(chunk("anew"))
        await at.said(["<connection>", "anew"])
    restart, _ = await at.frames()
    assert isinstance(restart, RestartFrame)
    assert (restart.seq, restart.model) == (2, "other")


async def test_a_restart_that_nobody_can_see_is_none(redis: Redis) -> None:
    at = await bench(redis, **GATHERING)
    async with at.publisher() as publisher:
        await publisher.chunk(chunk(role="assistant"))
        await publisher.restart(ErrorKind.CONNECTION, "other")
        await publisher.chunk(chunk("anew"))
    assert await at.texts() == ["anew"]


async def test_work_that_fails_sends_no_more(redis: Redis) -> None:
    at = await bench(redis, **GATHERING)

    async def work() -> None:
        async with at.publisher() as publisher:
            await publisher.chunk(chunk("a"))
            await at.said(["a"])
            await publisher.chunk(chunk("b"))
            raise LookupError

    with pytest.raises(LookupError):
        await work()
    assert await at.texts() == ["a"]


async def test_a_worker_that_lost_its_lease_stops(redis: Redis) -> None:
    at = await bench(redis, **GATHERING)
    await at.ledger.hand_back(at.job.id, 1, begun=1, ended=(), call_under_way=True)
    async with at.publisher() as publisher:
        await publisher.chunk(chunk("a"))
        await async_wait_until(lambda: at.execution.stop_reason is StopReason.LOST, 5, "the stop")
    assert await at.texts() == []


async def test_a_stream_holds_no_more_than_its_limit_however_it_is_cut(redis: Redis) -> None:
    """Chunks that bring hardly any text fill Redis, too."""
    at = await bench(redis, stream_flush="0s", stream_max_bytes=10_000)

    async def send_for_ever(publisher: StreamPublisher) -> None:
        while True:
            await publisher.chunk(chunk("", provider_specific_fields={"n": 1}))
            await redis.ping()

    with pytest.raises(StreamTooLarge):
        async with asyncio.timeout(20), at.publisher() as publisher:
            await send_for_ever(publisher)
    assert (await redis.memory_usage(keys.stream_log_key(at.job.id)) or 0) < 100_000


async def test_a_full_redis_ends_the_frames_and_not_the_work(own_valkey: ValkeyServer) -> None:
    async with connect(own_valkey.url, outage_s=5) as redis:
        at = await bench(redis, stream_flush="1ms")
        async with at.publisher() as publisher:
            await publisher.chunk(chunk("a"))
            await at.said(["a"])
            await redis.config_set("maxmemory", "1mb")
            await publisher.chunk(chunk("b"))
            await async_wait_until(lambda: publisher.muted, 5, "the refusal")
            await redis.config_set("maxmemory", "0")
            await publisher.chunk(chunk("c" * 300_000))
        assert await at.texts() == ["a"], "a text with a hole in it is worse than one that stops"
        assert at.execution.stop_reason is None


async def test_a_redis_that_stands_still_holds_up_the_stream_and_nothing_else(
    own_valkey: ValkeyServer,
) -> None:
    async with connect(own_valkey.url, outage_s=60) as redis:
        at = await bench(redis, stream_flush="1ms")
        async with at.publisher() as publisher:
            own_valkey.freeze()

            async def send_all() -> None:
                for _ in range(400):
                    await publisher.chunk(chunk("x" * 1000))

            sending = asyncio.create_task(send_all())
            await asyncio.wait([sending], timeout=0.5)
            assert not sending.done(), "400 kB wait for Redis"
            own_valkey.thaw()
            await sending
        assert "".join(await at.texts()) == "x" * 400_000


@given(st.data())
def test_gathered_chunks_come_to_the_same_answer(data: st.DataObject) -> None:
    """Whatever is joined in a frame, the pieces make the same answer."""
    pieces = st.one_of(
        st.builds(partial(chunk), st.text(max_size=3), choice=st.integers(0, 1)),
        st.builds(partial(chunk, reasoning_content="r")),
        st.builds(partial(chunk, "x", refusal="y")),
        st.builds(
            lambda index, text: chunk(tool_calls=[{"index": index, "function": {"arguments": text}}]),
            st.integers(0, 1),
            st.text(max_size=3),
        ),
        st.just({**chunk(), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        st.just({**chunk("l"), "choices": [
            {"index": 0, "delta": {"content": "l"}, "finish_reason": None, "logprobs": {"content": [1]}}]}),
    )  # fmt: skip
    function = {"name": "f", "arguments": ""}
    names = [
        chunk(tool_calls=[{"index": at, "id": f"c{at}", "type": "function", "function": function}])
        for at in (0, 1)
    ]
    ends = [chunk(choice=0, reason="stop"), chunk(choice=1, reason="stop")]
    said = [*names, *data.draw(st.lists(pieces, max_size=30)), *ends]
    before = json.dumps(said)
    buffer, sent = FrameBuffer(), []
    for one in said:
        buffer.add(one)
        if data.draw(st.integers(0, 3)) == 0:
            sent += buffer.take()
    sent += buffer.take()
    assert assembled(sent) == assembled(said)
    assert json.dumps(said) == before, "the chunks are the caller's"


def test_a_plain_text_becomes_one_chunk() -> None:
    buffer = FrameBuffer()
    for word in ("all", "that", "was", "said"):
        buffer.add(chunk(word))
    assert len(buffer.take()) == 1
    for piece in ('{"a', '":', "1}"):
        buffer.add(chunk(tool_calls=[{"index": 0, "function": {"arguments": piece}}]))
    assert [one["choices"][0]["delta"] for one in buffer.take()] == [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
    ]


def assembled(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    assembler = AnswerAssembler()
    for one in chunks:
        assembler.add(one)
    return assembler.response()
