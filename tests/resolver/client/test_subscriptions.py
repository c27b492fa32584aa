"""Connections that break just when they are used."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from rustic_ai.llm_queue.resolver.client.subscriptions import Listener, Subscriptions
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from support.processes.wait import async_wait_until


class Ear(Listener):
    def __init__(self) -> None:
        self.here = asyncio.Event()

    def joined(self) -> None:
        self.here.set()

    def heard(self, text: str) -> None:
        raise AssertionError("nobody says anything")


async def break_off(pubsub: Any) -> None:
    """Its connection is reset, as by a server that dies, and asyncio knows it before redis-py does."""
    pubsub.connection._writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_command_on_a_connection_that_has_just_broken_is_an_outage(redis_url: str) -> None:
    redis = connect(redis_url, outage_s=0)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("one")
        await break_off(pubsub)
        with pytest.raises(RedisConnectionError):
            await pubsub.connection.send_command("UNSUBSCRIBE", "one")
    await redis.aclose()


async def test_an_answer_is_not_lost_with_the_connection_it_came_on(redis_url: str) -> None:
    redis: Redis = connect(redis_url, outage_s=0)
    subscriptions = Subscriptions(redis, always="nobody publishes here")
    ear = Ear()
    async with subscriptions.listening("one", ear):
        await async_wait_until(lambda: subscriptions._pubsub is not None, 10, "the connection")
        await asyncio.wait_for(ear.here.wait(), 10)
        await break_off(subscriptions._pubsub)
        answer = "paid for"
    assert answer == "paid for"
    await subscriptions.close()
    await redis.aclose()
