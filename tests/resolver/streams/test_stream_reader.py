"""Readers of streams on a real server; the test itself plays the worker, on the ledger."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from rustic_ai.llm_queue.resolver import QueueLLM, QueueUnavailable, StreamExpired
from rustic_ai.llm_queue.resolver.call import open_stream
from rustic_ai.llm_queue.resolver.client.stream_reader import Inbox
from rustic_ai.llm_queue.resolver.properties import Properties
from rustic_ai.llm_queue.tasks.frames import ChunksFrame, FrameId, seal_frame
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Account, Answered
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.result import encode_result
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer

#: No Celery worker takes the wake-ups, and some jobs are left waiting.
pytestmark = pytest.mark.leaves_keys("llm*")

OWNER = Owner(org="o", guild="g", agent="a")
PLAIN = Sealer(KeyRing({}))
ASK = ChatCompletionRequest(messages=[UserMessage(content="Well?")])


def llm_at(url: str) -> QueueLLM:
    settings = QueueSettings(redis_url=url, redis_timeout=timedelta(seconds=2))
    return QueueLLM(Properties.load({"model": "m"}), settings, OWNER)


def chunk(text: str | None, reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


class Hands:
    """Answers one job the way a worker does."""

    def __init__(self, ledger: Ledger, job_id: str, epoch: int) -> None:
        self._ledger, self._id, self._epoch, self._seq = ledger, job_id, epoch, 0
        self._text = ""

    async def say(self, text: str) -> None:
        self._seq, self._text = self._seq + 1, self._text + text
        frame = ChunksFrame(epoch=self._epoch, seq=self._seq, chunks=(chunk(text),))
        raw = seal_frame(frame.model_dump_json(), job_id=self._id, owner=OWNER, sealer=PLAIN)
        assert await self._ledger.emit(self._id, FrameId(self._epoch, self._seq), raw)

    async def finish(self) -> None:
        message = {"role": "assistant", "content": self._text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        response = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        outcome = Answered(account=Account(), model="m", response=response)
        meta = encode_result(outcome, job_id=self._id, owner=OWNER, sealer=PLAIN)
        verdict = await self._ledger.finish(self._id, self._epoch, JobState.ANSWERED, meta, attempts=())
        assert verdict == "done"


@asynccontextmanager
async def hands(url: str, job_id: str) -> AsyncIterator[Hands]:
    async with Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger(redis, result_ttl=timedelta(minutes=5))
        claim = await ledger.claim(job_id, worker="w", token="t", lease=timedelta(seconds=60), most_losses=0)
        assert claim.verdict == "granted"
        yield Hands(ledger, job_id, claim.epoch)


class Monitor:
    """The commands a server gets, in their order."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self.commands: list[str] = []

    def __enter__(self) -> "Monitor":
        self._client = self._server.client()
        self._monitor = self._client.monitor().__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._server.client() as client:
            client.echo("the end")
        self._thread.join(5)
        self._monitor.__exit__(None, None, None)
        self._client.close()

    def _listen(self) -> None:
        for command in self._monitor.listen():
            if "the end" in command["command"]:
                return
            self.commands.append(command["command"])


def test_the_subscription_holds_before_the_job_is_queued(valkey: ValkeyServer, redis_url: str) -> None:
    llm = llm_at(redis_url)
    with Monitor(valkey) as monitor, llm.stream(ASK) as stream:
        job_id = stream.job_id
    channel = keys.stream_channel(job_id)
    subscribed = next(at for at, one in enumerate(monitor.commands) if one == f"SUBSCRIBE {channel}")
    submitted = next(at for at, one in enumerate(monitor.commands) if "_submit" in one)
    assert subscribed < submitted


async def test_a_slow_reader_gets_it_all_and_holds_little(redis_url: str) -> None:
    async with llm_at(redis_url).async_stream(ASK) as stream, hands(redis_url, stream.job_id) as worker:
        pieces = [f"{number} " + "x" * 20_000 for number in range(150)]
        for piece in pieces:
            await worker.say(piece)
        await worker.finish()
        assert [one.text async for one in stream if one.text] == pieces
    assert stream.restarts == 0


def test_an_inbox_that_overflows_is_emptied_and_says_so() -> None:
    inbox = Inbox()
    inbox.missed = False
    most = 0
    for _ in range(1_000):
        inbox.heard("x" * 10_000)
        most = max(most, sum(len(one) for one in inbox._messages))
    assert inbox.missed
    assert most < 1_000_000


def test_without_redis_a_stream_is_refused_within_five_seconds() -> None:
    llm = llm_at("redis://127.0.0.1:1/0")
    began = time.monotonic()
    with pytest.raises(QueueUnavailable, match="LLM_QUEUE_REDIS_URL"), llm.stream(ASK):
        pass
    assert time.monotonic() - began < 5, "the promise of a clear error within 5 s"


@pytest.fixture
def without_channels() -> Iterator[str]:
    """A server whose user may do anything but subscribe."""
    rule = "user agent on >pw ~* +@all resetchannels"
    with ValkeyServer(acl=["user default off", rule]) as server:
        yield server.url_for("agent", "pw")


def test_who_may_not_subscribe_is_told(without_channels: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(QueueUnavailable, match="subscription"), llm_at(without_channels).stream(ASK):
        pass
    assert "permissions" in caplog.text


async def test_a_stream_whose_record_is_gone_has_expired(redis_url: str, valkey: ValkeyServer) -> None:
    handle = await llm_at(redis_url).async_submit(ASK, stream=True)
    async with handle.async_stream() as stream:
        with valkey.client() as client:
            client.delete(keys.job_key(handle.id), keys.DEADLINES)
        with pytest.raises(StreamExpired):
            await stream.result()


async def test_an_ended_stream_that_cannot_be_read_is_an_error(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_stream, "_LONGEST_READ_S", 0.5)
    handle = await llm_at(own_valkey.url).async_submit(ASK, stream=True)
    async with hands(own_valkey.url, handle.id) as worker:
        await worker.say("all of it")
        await worker.finish()
    async with handle.async_stream() as stream:
        own_valkey.freeze()
        with pytest.raises(QueueUnavailable):
            await stream.result()
        own_valkey.thaw()
        assert (await stream.result()).choices[0].message.content == "all of it"


def test_a_stream_is_entered_once(redis_url: str) -> None:
    stream = llm_at(redis_url).stream(ASK)
    with pytest.raises(RuntimeError, match="with"):
        _ = stream.text
    with stream:
        with pytest.raises(RuntimeError, match="end"):
            _ = stream.response
        with pytest.raises(RuntimeError, match="once"), stream:
            pass


def test_all_readers_of_a_process_share_one_subscription(redis_url: str, valkey: ValkeyServer) -> None:
    llm = llm_at(redis_url)
    streams = [llm.stream(ASK) for _ in range(5)]
    for stream in streams:
        stream.__enter__()

    def subscribers() -> list[str]:
        return [one["sub"] for one in valkey.connections() if one["sub"] != "0"]

    assert subscribers() == ["6"], "five streams and the idle channel"
    for stream in streams:
        stream.__exit__(None, None, None)
    wait_until(lambda: subscribers() == ["1"], 5, "the channels to be left")
