"""Calls of the ledger's functions that are made in one moment: they share a write, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.functions.gathered_calls import GatheredCalls
from support.processes.wait import async_wait_until
from support.servers.valkey import ValkeyServer


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A client as workers and agents have it."""
    async with connect(redis_url, outage_s=10) as client:
        yield client


async def test_calls_of_one_moment_share_a_write(client: Redis, redis: Redis) -> None:
    calls = GatheredCalls(client)
    await calls.call(["PING"])
    before = (await redis.info("stats"))["total_reads_processed"]
    answers = await asyncio.gather(*(calls.call(["ECHO", str(number)]) for number in range(30)))
    assert answers == [str(number) for number in range(30)]
    # Redis reads once for all of them, and once for the question.
    assert (await redis.info("stats"))["total_reads_processed"] - before <= 4


async def test_hundreds_of_calls_each_have_their_own_answer(client: Redis) -> None:
    calls = GatheredCalls(client)
    answers = await asyncio.gather(*(calls.call(["ECHO", str(number)]) for number in range(500)))
    assert answers == [str(number) for number in range(500)]


async def test_an_error_is_only_its_own_callers(client: Redis) -> None:
    calls = GatheredCalls(client)
    wanted = [calls.call(["ECHO", "a"]), calls.call(["INCR"]), calls.call(["ECHO", "b"])]
    first, wrong, last = await asyncio.gather(*wanted, return_exceptions=True)
    assert (first, last) == ("a", "b")
    assert isinstance(wrong, ResponseError)


async def test_a_caller_that_gives_up_takes_no_other_along(client: Redis) -> None:
    calls = GatheredCalls(client)
    given_up, kept = (asyncio.create_task(calls.call(["ECHO", name])) for name in ("one", "other"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await kept == "other"
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_calls_wait_while_redis_refuses_them(own_valkey: ValkeyServer) -> None:
    with own_valkey.client() as operator:
        operator.config_set("min-replicas-to-write", 1)
        async with connect(own_valkey.url, outage_s=30) as client:
            calls = GatheredCalls(client)
            waiting = [asyncio.create_task(calls.call(["INCR", "number"])) for _ in range(3)]
            await async_wait_until(lambda: _refused(operator) > 3, 10, "a second try of a refused write")
            assert not any(one.done() for one in waiting)
            operator.config_set("min-replicas-to-write", 0)
            assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3]


async def test_calls_outlive_a_restart_of_redis() -> None:
    with ValkeyServer() as server:
        async with connect(server.url, outage_s=30) as client:
            calls = GatheredCalls(client)
            await calls.call(["PING"])
            server.kill()
            waiting = [asyncio.create_task(calls.call(["ECHO", str(number)])) for number in range(5)]
            await asyncio.to_thread(server.start)
            assert await asyncio.gather(*waiting) == ["0", "1", "2", "3", "4"]


async def test_all_calls_fail_when_redis_stays_away() -> None:
    with ValkeyServer() as server:
        url = server.url
    async with connect(url, outage_s=0) as client:
        calls = GatheredCalls(client)
        failed = await asyncio.gather(*(calls.call(["PING"]) for _ in range(3)), return_exceptions=True)
    assert [isinstance(error, RedisConnectionError) for error in failed] == [True] * 3


def test_a_ledger_may_be_used_from_one_loop_after_the_other(redis_url: str) -> None:
    client = connect(redis_url, outage_s=0, max_connections=1)
    calls = GatheredCalls(client)

    async def abandon() -> None:
        asyncio.ensure_future(calls.call(["PING"]))  # noqa: RUF006 - it is left behind on purpose
        await asyncio.sleep(0)

    async def ask() -> str:
        answer: str = await calls.call(["ECHO", "here"])
        await client.aclose()
        return answer

    asyncio.run(abandon())
    assert asyncio.run(ask()) == "here"


def _refused(operator: SyncRedis) -> int:
    errors = operator.info("errorstats").get("errorstat_NOREPLICAS", {"count": 0})
    return int(errors["count"])
