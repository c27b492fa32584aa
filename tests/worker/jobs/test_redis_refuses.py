"""Redis refuses for a while, just when something is to be written: one POST, and the answer is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS, connect
from rustic_ai.llm_queue.tasks.frames import START
from rustic_ai.llm_queue.tasks.outcome import Answered
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.job_kit import JobKit
from worker.jobs.conftest import MakeKit


class Refusal:
    """A state of the server in which it refuses, and the way back."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server, self.under_way = server, False
        self.admin: sync_redis.Redis = server.client(socket_timeout=None)

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def code(self) -> str:
        """The code of its replies to a write."""
        with self.server.client() as client:
            try:
                client.set("refused", "1", ex=10)
            except RedisError as error:
                return str(error).split(" ")[0]
        return "OK"


class NoReplicas(Refusal):
    def begin(self) -> None:
        self.admin.config_set("min-replicas-to-write", 1)

    def end(self) -> None:
        self.admin.config_set("min-replicas-to-write", 0)


class DiskFull(Refusal):
    def begin(self) -> None:
        folder = Path(str(self.admin.config_get("dir")["dir"]))
        # Nothing can take this name, as on a disk that is full.
        self.blocked = folder / str(self.admin.config_get("dbfilename")["dbfilename"])
        self.blocked.mkdir()
        self.admin.config_set("save", "3600 1")
        self.admin.set("changed", "1", ex=60)
        self.admin.bgsave()

    def end(self) -> None:
        self.admin.config_set("save", "")
        self.blocked.rmdir()
        self.admin.bgsave()


class Busy(Refusal):
    def begin(self) -> None:
        self.admin.config_set("busy-reply-threshold", 20)
        self.spinning = self.server.client(socket_timeout=None)
        self.spinning.connection_pool.get_connection().send_command("EVAL", "while true do end", 0)

    def end(self) -> None:
        self.admin.execute_command("SCRIPT", "KILL")


REFUSALS = {"NOREPLICAS": NoReplicas, "MISCONF": DiskFull, "BUSY": Busy}
MakeRefusal = Callable[[], Refusal]


@pytest.fixture(params=REFUSALS)
async def refusal(request: pytest.FixtureRequest, own_valkey: ValkeyServer) -> AsyncIterator[Refusal]:
    refusal: Refusal = REFUSALS[request.param](own_valkey)
    yield refusal
    assert request.param in OBSERVED, "the server never refused"


OBSERVED: set[str] = set()


async def begun(refusal: Refusal) -> None:
    if not refusal.under_way:
        refusal.under_way = True
        await asyncio.to_thread(refusal.begin)

    async def refused() -> bool:
        code = await asyncio.to_thread(refusal.code)
        OBSERVED.add(code)
        return code != "OK"

    await async_wait_until(refused, 10, "the refusal")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_outlives_a_redis_that_takes_no_writes(
    make_kit: MakeKit, own_valkey: ValkeyServer, provider: ProviderStub, refusal: Refusal, stream: bool
) -> None:
    kit: JobKit = make_kit(own_valkey)
    provider.plan("q", Step(hold=True, text="kept"))
    job = await kit.submit("why #q", stream=stream)
    execution, task = kit.start(job)
    await async_wait_until(lambda: provider.open_calls, 10)
    await begun(refusal)
    provider.release()
    await async_wait_until(lambda: execution.answer, 10, "the provider's answer")
    await begun(refusal)
    await asyncio.to_thread(refusal.end)
    outcome = await asyncio.wait_for(task, 30)
    assert isinstance(outcome, Answered)
    assert await kit.result(job) == outcome
    if stream:
        assert await kit.ledger.frames(job.id, after=START, most=100), "the stream was given up"
    assert len(provider.requests("q")) == 1


async def test_a_retry_waits_to_be_put_on_record(
    make_kit: MakeKit,
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    refusal: Refusal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit: JobKit = make_kit(own_valkey)
    provider.plan("q", Step(hold=True, status=500))
    job = await kit.submit("why #q")
    _, task = kit.start(job)
    await async_wait_until(lambda: provider.open_calls, 10)
    await begun(refusal)
    asked = asyncio.Event()
    execute: Any = kit.redis.execute_command

    def noted(*args: Any, **options: Any) -> Any:
        asked.set()
        return execute(*args, **options)

    monkeypatch.setattr(kit.redis, "execute_command", noted)
    provider.release()
    await asyncio.wait_for(asked.wait(), 10)
    await begun(refusal)
    assert len(provider.requests("q")) == 1
    await asyncio.to_thread(refusal.end)
    assert isinstance(await asyncio.wait_for(task, 30), Answered)
    assert len(provider.requests("q")) == 2


async def test_past_the_outage_it_is_one_of_the_typed_errors(
    own_valkey: ValkeyServer, refusal: Refusal
) -> None:
    await begun(refusal)
    async with connect(own_valkey.url, outage_s=0) as client:
        with pytest.raises(OUTAGE_ERRORS):
            await client.set("x", "1", ex=10)
    await asyncio.to_thread(refusal.end)


async def test_a_cluster_that_is_down_is_waited_for() -> None:
    with ValkeyServer(cluster=True) as server:
        async with connect(server.url, outage_s=30) as client:
            waiting = asyncio.ensure_future(client.get("x"))
            with server.client() as admin:

                async def refused() -> bool:
                    return "CLUSTERDOWN" in await asyncio.to_thread(lambda: str(admin.info("errorstats")))

                await async_wait_until(refused, 10)
                admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            assert await asyncio.wait_for(waiting, 20) is None
