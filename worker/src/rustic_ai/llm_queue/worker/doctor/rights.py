"""What a worker and the commands need to be allowed on Redis, found out without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from rustic_ai.llm_queue.tasks.job import PRIORITIES
from rustic_ai.llm_queue.tasks.ledger import keys

Command = tuple[str, ...]

#: Agents' user in docker/redis/users.acl.
AGENTS_USER = "agent"
#: No job has this id.
_JOB = "doctor"
_RECORD, _RESULT, _STREAM = keys.job_key(_JOB), keys.result_key(_JOB), keys.stream_log_key(_JOB)
_RUNNING = f"{keys.RUNNING_PREFIX}{_JOB}"
_BINDING, _REPLIES = "_kombu.binding.celery.pidbox", "doctor.reply.celery.pidbox"
_SHA1 = "0" * 40
_ANSWER_S = 2.0
#: What Redis must let this user do, each command with keys of the kind that it is used on.
_NEEDED: tuple[Command, ...] = (
    *((name, _RECORD) for name in ("HGETALL", "HKEYS", "HLEN", "DEL", "TYPE", "EXISTS", "PTTL", "TTL")),
    *((name, _RECORD, "x") for name in ("HGET", "HMGET", "HDEL", "HEXISTS")),
    *((name, _RECORD, "1") for name in ("EXPIRE", "PEXPIRE", "PEXPIREAT")),
    ("HSET", _RECORD, "x", "1"),
    ("HSETNX", _RECORD, "x", "1"),
    ("HINCRBY", _RECORD, "x", "1"),
    ("FCALL", "llmq", "1", _RECORD),
    ("TIME",),
    ("GET", _RESULT),
    ("MGET", _RESULT),
    ("SET", _RESULT, "x"),
    ("PUBLISH", _RESULT, "x"),
    ("XADD", _STREAM, "*", "x", "1"),
    ("XRANGE", _STREAM, "-", "+"),
    ("XLEN", _STREAM),
    ("XTRIM", _STREAM, "MAXLEN", "0"),
    ("PUBLISH", keys.stream_channel(_JOB), "x"),
    ("PUBLISH", keys.CANCEL_CHANNEL, _JOB),
    ("ZADD", keys.DEAD, "1", _JOB),
    *((name, keys.DEAD, _JOB) for name in ("ZREM", "ZSCORE")),
    ("ZCARD", keys.DEAD),
    ("ZRANGE", keys.DEAD, "0", "0"),
    *((name, keys.LEASES, "0", "0") for name in ("ZCOUNT", "ZRANGEBYSCORE", "ZREMRANGEBYSCORE")),
    ("ZPOPMIN", keys.DEADLINES),
    *((name, _RUNNING, "x") for name in ("SADD", "SREM", "SISMEMBER")),
    *((name, _RUNNING) for name in ("SCARD", "SMEMBERS")),
    *((name, keys.QUARANTINE, "0", "0") for name in ("LRANGE", "LTRIM")),
    ("LINDEX", keys.QUARANTINE, "0"),
    ("LPUSH", keys.QUARANTINE, "x"),
    ("RENAME", keys.QUARANTINE, f"{keys.QUARANTINE}:key"),
    ("HGETALL", keys.costs_key(0)),
    ("LRANGE", keys.WITHDRAWN, "0", "0"),
    ("ZRANGE", keys.CALLERS, "0", "0"),
    ("PUBSUB", "NUMSUB", _RESULT),
    # Celery's broker: its bindings, and the workers' answers to remote commands.
    ("SMEMBERS", _BINDING),
    ("SADD", _BINDING, "x"),
    ("BRPOP", _REPLIES, "1"),
    ("LPUSH", _REPLIES, "x"),
    ("PUBLISH", "/0.celery.pidbox", "x"),
    ("PUBLISH", "/0.celeryev/worker.heartbeat", "x"),
    ("EVALSHA", _SHA1, "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("SCRIPT", "EXISTS", _SHA1),
    ("FUNCTION", "LOAD", "x"),
)  # fmt: skip


async def missing_rights(redis: Redis, queue: str) -> list[str]:
    """What this user may not do of what the queue needs, as `COMMAND key`; empty when all is allowed.

    Every command is handed in within a transaction that is then thrown away: Redis checks the rights
    to a command when it is queued. Raises redis-py's `RedisError`.
    """
    async with redis.client() as one:
        # The answers are `QUEUED`, whatever the command: nothing to make sense of.
        one.response_callbacks.clear()
        try:
            await one.execute_command("MULTI")
        except NoPermissionError:
            return ["MULTI"]
        missing = [
            " ".join(command[:2]) for command in (*_NEEDED, *_on_lists(queue)) if not await _may(one, command)
        ]
        try:
            await one.execute_command("DISCARD")
        except NoPermissionError:
            missing.append("DISCARD")
            if one.connection is not None:
                await one.connection.disconnect()
    return missing


async def missing_channels(redis: Redis) -> list[str]:
    """The channels that this user may not listen to; one cannot ask for them within a transaction."""
    missing = []
    for listen, channel in (("subscribe", keys.CANCEL_CHANNEL), ("psubscribe", "/0.celeryev/*")):
        async with redis.pubsub() as pubsub:
            try:
                await getattr(pubsub, listen)(channel)
                # Subscribing only sends: the refusal is the first thing read.
                await pubsub.get_message(timeout=_ANSWER_S)
            except NoPermissionError:
                missing.append(f"{listen.upper()} {channel}")
    return missing


async def missing_to_agents(redis: Redis, queue: str) -> list[str] | None:
    """What the user `agent` may not do with the list of arrivals; None where that cannot be tried.

    Only an administrator may try another user's rights, and users may have other names than those of
    docker/redis/users.acl.
    """
    arrivals = keys.ARRIVALS_PREFIX + queue
    missing = []
    for command in (("LLEN", arrivals), ("LPUSH", arrivals, _JOB), ("PEXPIRE", arrivals, "1")):
        try:
            answer = await redis.execute_command("ACL DRYRUN", AGENTS_USER, *command)
        except (NoPermissionError, ResponseError):
            return None
        if answer not in ("OK", True):
            missing.append(" ".join(command[:2]))
    return missing


def _on_lists(queue: str) -> Iterator[Command]:
    for priority in PRIORITIES:
        wake_ups = keys.message_list(queue, priority)
        yield from ((name, wake_ups, "x") for name in ("LPUSH", "RPUSH"))
        yield ("LLEN", wake_ups)
        yield ("BRPOP", wake_ups, "1")
        yield ("BLMPOP", "1", "1", wake_ups, "RIGHT")
        yield ("ZCARD", keys.queued_key(queue, priority))


async def _may(one: Redis, command: Command) -> bool:
    try:
        await one.execute_command(*command)
    except NoPermissionError:
        return False
    except ResponseError:
        return True  # it has the right, and Redis another objection
    return True
