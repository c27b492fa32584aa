from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from rustic_ai.llm_queue.tasks.connection.cluster_mode import cluster_mode
from rustic_ai.llm_queue.tasks.connection.key_tag import hash_tag
from rustic_ai.llm_queue.tasks.connection.slot import Slot
from rustic_ai.llm_queue.tasks.ledger.ledger import FunctionsMissing, Ledger
from rustic_ai.llm_queue.tasks.policy.private_hosts import is_loopback
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from .finding import Finding, bad, doubtful, good
from .rights import AGENTS_USER, missing_channels, missing_rights, missing_to_agents

#: The first with functions.
_OLDEST_VERSION = (7, 0)
MOST_SKEW_S = 2.0
_SLOW_MS = 20.0
_FULL = 0.8
_MOST_SHOWN = 5
_AS_ADMIN = "let doctor run as an administrator of Redis, or grant this user +info"


async def check_server(redis: Redis, settings: QueueSettings) -> list[Finding]:
    """Version, persistence, memory, clock and rights of a Redis that answers."""
    findings = [await _round_trip(redis), await _mode(redis, settings), await _clock(redis)]
    try:
        info = await redis.info()
    except NoPermissionError:
        unseen = "version, persistence and memory cannot be seen: INFO is not this user's to ask"
        findings.append(doubtful("server", unseen, _AS_ADMIN))
    else:
        findings += [_version(info), _persistence(info), _eviction(info), *_memory(info)]
    findings += [*await _rights(redis, settings), await _login(redis, settings.redis_url)]
    return findings


async def _round_trip(redis: Redis) -> Finding:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        await redis.ping()
        times.append((time.perf_counter() - started) * 1000)
    middle_ms = sorted(times)[2]
    says = f"answers in {middle_ms:.1f} ms"
    if middle_ms > _SLOW_MS:
        return doubtful("redis", says, "each job takes about five round trips: move workers and Redis closer")
    return good("redis", says)


async def _mode(redis: Redis, settings: QueueSettings) -> Finding:
    tag = f"; every key begins with {hash_tag(settings.key_tag)}" if settings.key_tag else ""
    if await cluster_mode(redis):
        slot = Slot(settings.key_tag, ()).number
        return good("mode", f"a cluster, of which slot {slot} is used{tag}")
    if settings.redis_url.startswith("sentinel:"):
        return good("mode", f"the master that the Sentinels name{tag}")
    return good("mode", f"one server{tag}")


async def _clock(redis: Redis) -> Finding:
    before = time.time()
    try:
        seconds, microseconds = await redis.time()
    except NoPermissionError:
        return doubtful("clock", "TIME is not this user's to ask", "see what `rights` finds")
    skew_s = seconds + microseconds / 1e6 - (before + time.time()) / 2
    if abs(skew_s) > MOST_SKEW_S:
        says = f"Redis' clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
        return doubtful("clock", says, "run NTP on both; leases and deadlines go by Redis' clock alone")
    return good("clock", f"{abs(skew_s) * 1000:.0f} ms from this machine's")


def _version(info: Mapping[str, Any]) -> Finding:
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    text = str(info.get("valkey_version") or info.get("redis_version", "0"))
    # Valkey began as Redis 7.2.
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_VERSION:
        return bad("version", f"{name} {text} has no functions", "install Redis 7 or Valkey 7.2, or newer")
    return good("version", f"{name} {text}")


def _persistence(info: Mapping[str, Any]) -> Finding:
    if info.get("aof_last_write_status", "ok") != "ok":
        return bad("persistence", "the last write to the append-only file failed", "look at its disk")
    if info.get("aof_enabled"):
        return good("persistence", "append-only file")
    return doubtful(
        "persistence",
        "no append-only file: a restart of Redis loses jobs, answers and the books",
        "set `appendonly yes`, with `appendfsync everysec`",
    )


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return good("eviction", "noeviction")
    return bad(
        "eviction",
        f"maxmemory-policy is {policy}: when memory is short Redis drops jobs in silence",
        "set `maxmemory-policy noeviction`; then submits fail with a clear error instead",
    )


def _memory(info: Mapping[str, Any]) -> list[Finding]:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if not most:
        return [good("memory", f"{used / 1e6:.0f} MB used, no limit")]
    says = f"{used / 1e6:.0f} of {most / 1e6:.0f} MB used"
    if used > _FULL * most:
        return [doubtful("memory", says, "raise maxmemory, or shorten LLM_QUEUE_RESULT_TTL")]
    return [good("memory", says)]


async def _rights(redis: Redis, settings: QueueSettings) -> list[Finding]:
    """Whether this user may do what the queue's workers and commands do."""
    missing = [*await missing_rights(redis, settings.queue), *await missing_channels(redis)]
    if missing:
        shown = ", ".join(missing[:_MOST_SHOWN]) + (" and more" if len(missing) > _MOST_SHOWN else "")
        mend = "give the user the rights of a worker's in docker/redis/users.acl, or use that user"
        return [bad("rights", f"this user may not: {shown}", mend)]
    try:
        await Ledger(redis, result_ttl=settings.result_ttl).renew({}, lease=timedelta(seconds=1))
    except FunctionsMissing:
        return [
            bad(
                "rights",
                "the queue's functions are not loaded, and this user may not load them",
                "run `llm-queue load-functions` as the worker's user, or start a worker",
            )
        ]
    return [good("rights", "functions, keys and channels of the queue"), *await _agents(redis, settings)]


async def _agents(redis: Redis, settings: QueueSettings) -> list[Finding]:
    """Whether agents may put their jobs where they take turns; nothing where that cannot be tried."""
    missing = await missing_to_agents(redis, settings.queue)
    if missing is None:
        return []
    if missing:
        says = f"the user {AGENTS_USER!r} may not: {', '.join(missing)}; its jobs go ahead of all turns"
        mend = "give it the rights of docker/redis/users.acl, and ACL LOAD"
        return [doubtful("agents", says, mend)]
    return [good("agents", f"the user {AGENTS_USER!r} may put jobs into {settings.queue!r} in turn")]


async def _login(redis: Redis, url: str) -> Finding:
    try:
        user = str(await redis.acl_whoami())
    except RedisError:
        user = ""
    parts = urlsplit(url)
    if parts.password or is_loopback(parts.hostname or ""):
        # Redis users with few rights often may not even ask for their own name.
        return good("login", f"user {user!r}" if user else "a user of few rights")
    return bad(
        "login",
        "no password, and Redis is not on this machine: whoever reaches it can read and forge jobs",
        "give agents and workers users of their own, as the ACL in docker/ does, and use rediss://",
    )
