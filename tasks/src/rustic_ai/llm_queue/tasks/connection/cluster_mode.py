"""Whether Redis is in cluster mode, and what then has to be asked of all its nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import batched
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import RedisError

from ..settings import SettingsError
from .checked_connection import checked
from .redis_errors import set_up_as_cluster
from .redis_url import is_cluster_url
from .slot_connection import TlsSlotConnection, asking_options

#: What CLUSTER NODES calls nodes that take no part.
_ABSENT = ("fail", "noaddr", "handshake")


async def cluster_mode(redis: Redis) -> bool:
    """Whether Redis answers in cluster mode. Every user may ask that. Raises redis-py's `RedisError`."""
    reply = await redis.execute_command("HELLO")
    fields = reply if isinstance(reply, Mapping) else dict(batched(reply, 2, strict=True))
    return bool(fields.get("mode") == "cluster")


async def refuse_cluster_mode(redis: Redis, url: str, variable: str = "LLM_QUEUE_REDIS_URL") -> None:
    """Raises `SettingsError` for a Redis in cluster mode whose URL, of that variable, does not say so."""
    if not is_cluster_url(url) and await cluster_mode(redis):
        raise SettingsError(set_up_as_cluster(variable))


async def count_subscribers(redis: Redis, channels: Sequence[str]) -> dict[str, int]:
    """How many connections listen to each channel, on whatever node of a cluster. Raises `RedisError`."""
    if not _in_cluster(redis):
        return dict(_pairs(await redis.pubsub_numsub(*channels)))
    counts = dict.fromkeys(channels, 0)
    async for node in _nodes(redis):
        for channel, count in _pairs(await node.pubsub_numsub(*channels)):
            counts[channel] += count
    return counts


async def load_functions(redis: Redis, source: str) -> None:
    """Load a library, on every primary of a cluster: a node that takes the slot over has it then.

    Raises redis-py's `RedisError`.
    """
    if not _in_cluster(redis):
        await redis.function_load(source)
        return
    await redis.function_load(source, replace=True)
    async for node in _nodes(redis, primaries=True):
        # A node that is away gets the library later, by the first call there of a user who may load one.
        with suppress(RedisError):
            await node.function_load(source, replace=True)


def _pairs(reply: Any) -> Iterable[tuple[str, int]]:
    # Typed as bytes or text; these clients decode.
    return cast("list[tuple[str, int]]", reply)


def _in_cluster(redis: Redis) -> bool:
    return "slot" in redis.connection_pool.connection_kwargs


async def _nodes(redis: Redis, *, primaries: bool = False) -> AsyncIterator[Redis]:
    nodes: dict[str, dict[str, Any]] = await redis.execute_command("CLUSTER NODES")
    for address, node in nodes.items():
        flags = node["flags"].split(",")
        if any(flag in _ABSENT for flag in flags) or (primaries and "master" not in flags):
            continue
        host, _, port = address.rpartition(":")
        async with _client(redis, node["hostname"] or host, int(port)) as one:
            yield one


@asynccontextmanager
async def _client(redis: Redis, host: str, port: int) -> AsyncIterator[Redis]:
    pool = redis.connection_pool
    plain = SSLConnection if issubclass(pool.connection_class, TlsSlotConnection) else Connection
    options = asking_options(pool.connection_kwargs)
    own = ConnectionPool(
        connection_class=checked(plain), host=host, port=port, decode_responses=True, **options
    )
    async with Redis.from_pool(own) as client:
        yield client
